"""The report as one page that needs neither script nor network. Its public part is listed here."""

from inference.evaluate.page.document import build as build
