"""MCP: a pool's sandboxes as tools for language models, at `<pool endpoint>/mcp`.

`endpoint` is the route, which with `tools` is all that the rest of the gateway imports: it loads `library`, and with it the official `mcp`
package (32 MB, half a second), when somebody calls. `tools` is what a model reads, `arguments` what it sends, `toolbox` what is done with
it, `results` what it gets back; none of these four knows the package, so that each is tested without it.
"""
