"""The console's page of pools: what a card says, and making, changing and deleting one, with the control plane's own messages."""

from __future__ import annotations

import re
import uuid

import httpx
import pytest
from playwright.sync_api import Locator, Page, expect

from conftest import Server
from processes import eventually

HOSTILE = "<img src=x onerror=\"window.evil='ran'\"><script>evil=1</script>"


def test_a_pool_is_made_changed_and_deleted(page: Page, arm_pools: httpx.Client) -> None:
    """Each message of the control plane stands at the field it is about; what is there is never written over."""
    name = f"p{uuid.uuid4().hex[:8]}"
    page.get_by_role("button", name="New pool").click()
    form = page.get_by_role("dialog", name="New pool")
    form.get_by_label("Name", exact=True).fill("Bad_Name")
    form.get_by_role("button", name="Create").click()
    expect(form.get_by_label("Name", exact=True)).to_have_attribute("aria-invalid", "true")
    expect(form.get_by_label("Name", exact=True)).to_be_focused()
    expect(said_at(form, "Name")).to_contain_text("3 to 63 lower-case letters")

    form.get_by_label("Name", exact=True).fill(name)
    form.get_by_label("Image").fill("python-slim")
    form.get_by_label("Sessions at most").fill("many")
    form.get_by_label("Memory").fill("lots")
    form.get_by_role("button", name="Create").click()
    expect(said_at(form, "Sessions at most")).to_contain_text("must be a whole number")
    expect(said_at(form, "Memory")).to_contain_text("such as")
    expect(form.get_by_label("Name", exact=True)).not_to_have_attribute("aria-invalid", "true")

    for label, value in {"Sessions at most": "3", "Kept ready": "0", "Memory": "1GiB"}.items():
        form.get_by_label(label).fill(value)
    form.get_by_role("button", name="Create").click()
    card = page.get_by_role("article", name=f"Pool {name}")
    expect(card).to_contain_text("up to 3 sessions")
    expect(card).to_contain_text("Ready")
    assert arm_pools.get(name, params=VERSION).json()["properties"]["carrel"]["image"] == "python-slim"

    page.get_by_role("button", name="New pool").click()
    form.get_by_label("Name", exact=True).fill(name)
    form.get_by_role("button", name="Create").click()
    expect(form.get_by_role("alert")).to_have_text("There is a pool of this name already.")
    page.keyboard.press("Escape")
    expect(form).to_have_count(0)
    expect(page.get_by_role("button", name="New pool")).to_be_focused()

    page.get_by_role("button", name=f"Edit {name}").click()
    edit = page.get_by_role("dialog", name=f"Edit {name}")
    edit.get_by_label("Sessions at most").fill("4")
    edit.get_by_label("Only these hosts").check()
    edit.get_by_label("Hosts", exact=True).fill("not a host!")
    edit.get_by_role("button", name="Save").click()
    expect(said_at(edit, "Hosts")).not_to_be_empty()
    edit.get_by_label("Hosts", exact=True).fill("pypi.org\nfiles.pythonhosted.org")
    edit.get_by_role("button", name="Save").click()
    expect(card).to_contain_text("up to 4 sessions")
    expect(card).to_contain_text("Only pypi.org, files.pythonhosted.org")

    page.get_by_role("button", name=f"Delete {name}").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(card).to_have_count(0)
    assert eventually(lambda: arm_pools.get(name, params=VERSION).status_code == 404, 20)


VERSION = {"api-version": "2026-07-01"}


def said_at(form: Locator, label: str) -> Locator:
    """What is said at the field of this label."""
    return form.locator(".field", has=form.page.get_by_text(label, exact=True)).locator(".fault")


@pytest.mark.thorough
def test_a_card_says_what_isolation_and_network_mean(page: Page) -> None:
    card = page.get_by_role("article", name="Pool python")

    expect(card).to_contain_text("Namespaces. Code has a system of its own")
    expect(card).to_contain_text("No network")
    expect(card.get_by_role("img", name=re.compile(r"^0 live and \d+ warm of at most 10$|live and"))).to_be_visible()
    expect(card.get_by_role("img", name=re.compile("^Calls a minute over the last hour: "))).to_be_visible()


def test_hostile_names_are_text(page: Page, console_server: Server, arm_pools: httpx.Client) -> None:
    """A tag, an image's name, an error of markup, and an identifier of it are shown as they are, and none of it runs."""
    name = f"p{uuid.uuid4().hex[:8]}"
    body = {
        "location": "local",
        "tags": {"note": HOSTILE},
        "properties": {"scaleConfiguration": {"maxConcurrentSessions": 2, "readySessionInstances": 0}},
    }
    body["properties"]["carrel"] = {"image": "python-slim"}  # type: ignore[index]
    assert arm_pools.put(name, params=VERSION, json=body).status_code == 201
    with console_server.client(HOSTILE[:100]) as client:
        client.execute("1")

        page.goto(f"{console_server.connection['http']}/console/#/sessions/default/python")
        expect(page.get_by_text(HOSTILE[:100])).to_be_visible()
        client.end()
    page.goto(f"{console_server.connection['http']}/console/#/pools")
    expect(page.get_by_role("article", name=f"Pool {name}")).to_be_visible()
    page.goto(f"{console_server.connection['http']}/console/#/sessions/{'%3Cimg%20src%3Dx%20onerror%3Devil()%3E'}/x")
    expect(page.get_by_role("alert").filter(has_text="There is no pool")).to_be_visible()

    assert page.evaluate("window.evil") is None
    arm_pools.delete(name, params=VERSION)
