"""axe-core, which nobody here wrote, looks at pages for what keeps people out of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from playwright.async_api import Page

_AXE: Final = Path(__file__).parent / "clients/node_modules/axe-core/axe.min.js"
NEEDS_AXE: Final = pytest.mark.skipif(not _AXE.exists(), reason="there is no axe-core: make test")
# Every rule, also those of good practice. Only a menu may stand outside of all landmarks: it
# belongs to its button, which is in one.
_LOOK: Final = """
async () => {
  // What slides or fades into its place is looked at there.
  await Promise.allSettled(document.getAnimations().map((one) => one.finished));
  const { violations } = await axe.run(document, { resultTypes: ['violations'] });
  const open = (id, html) => id === 'region' && html.startsWith('<div class="popover');
  return violations.flatMap(({ id, nodes }) =>
    nodes.filter(({ html }) => !open(id, html)).map(({ html, any, all, none }) =>
      `${id}: ${html.slice(0, 160)} -- ${[...any, ...all, ...none].map((one) => one.message)}`));
}
"""


async def faults_of(page: Page) -> list[str]:
    """Return what is wrong with *page* as it is shown now, each with the element it is about."""
    if not await page.evaluate("'axe' in window"):
        await page.evaluate(_AXE.read_text(encoding="utf-8"))
    found: list[str] = await page.evaluate(_LOOK)
    return found
