"""A browser, where a page is opened in one."""

from tests.support.browser import browser

__all__ = ["browser"]
