"""A report as one HTML file that needs no network: what it holds is data, and one writer makes the page of it."""

from jaxdiff.pages.page import Page, Part, Picture, Pictures, Plot, Section, Series, Table, deviation
from jaxdiff.pages.settings import settings_of
from jaxdiff.pages.write import REPORT, write_page

__all__ = [
    "REPORT",
    "Page",
    "Part",
    "Picture",
    "Pictures",
    "Plot",
    "Section",
    "Series",
    "Table",
    "deviation",
    "settings_of",
    "write_page",
]
