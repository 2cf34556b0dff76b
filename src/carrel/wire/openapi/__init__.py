"""The OpenAPI document's words: what each operation takes and answers, as data. server/openapi.py puts them to the routes there are."""
