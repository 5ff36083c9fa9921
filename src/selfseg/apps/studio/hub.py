"""The pages that are open: what is said to one, and what to all."""

import asyncio
import contextlib

from fastapi import WebSocket

from selfseg.apps.studio.messages import News

SEND_WITHIN = 20.0
"""Seconds after which a page that takes nothing is given up."""


class Hub:
    """All open pages."""

    def __init__(self) -> None:
        self._pages: set[WebSocket] = set()

    def add(self, page: WebSocket) -> None:
        """Let a page hear what is said to all."""
        self._pages.add(page)

    def drop(self, page: WebSocket) -> None:
        """Forget a page."""
        self._pages.discard(page)

    async def tell(self, page: WebSocket, news: News) -> None:
        """Say something to one page; one that is gone is forgotten."""
        try:
            await asyncio.wait_for(page.send_text(news.model_dump_json()), SEND_WITHIN)
        except Exception:  # noqa: BLE001 (a page can vanish in many ways, and none of them concerns the others)
            self.drop(page)
            with contextlib.suppress(Exception):
                await page.close()

    async def tell_all(self, *news: News) -> None:
        """Say something to all pages."""
        for page in list(self._pages):
            for item in news:
                await self.tell(page, item)
