"""A session's page, as its tests use it."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote

from playwright.sync_api import Locator, Page, expect

from conftest import Server


@dataclass(frozen=True, slots=True)
class Notebook:
    page: Page
    server: Server
    identifier: str
    pool: str = "python"

    def open(self) -> Notebook:
        """In this tab, wherever it is; and without what the tab has kept of other pages."""
        group = self.server.connection["resource_group"]
        self.page.goto(
            f"{self.server.connection['http']}/console/#/session/{group}/{self.pool}/{quote(self.identifier, safe='')}"
        )
        expect(self.cell(1)).to_be_visible()
        return self

    def cell(self, number: int) -> Locator:
        return self.page.get_by_role("region", name=f"Cell {number}", exact=True)

    def code(self, number: int) -> Locator:
        return self.page.get_by_label(f"Code of cell {number}", exact=True)

    def given(self, number: int) -> Locator:
        """What a cell gave."""
        return self.cell(number).locator(".outputs")

    def start(self, number: int, code: str, key: str = "Control+Enter") -> Locator:
        """Type code into a cell and run it; what it gives."""
        self.code(number).fill(code)
        self.code(number).press(key)
        return self.given(number)

    def run(self, number: int, code: str, key: str = "Control+Enter", how: str = "good") -> Locator:
        """And wait until it is over."""
        given, cell = self.start(number, code, key), self.cell(number)
        expect(cell).to_have_attribute("data-how", how)
        expect(cell).to_have_attribute("data-state", "idle")
        return given

    def pane(self, name: str) -> Locator:
        self.page.get_by_role("tab", name=name).click()
        return self.page.get_by_role("tabpanel", name=name)
