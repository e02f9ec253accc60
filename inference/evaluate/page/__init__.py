"""The report as one page that needs neither script nor network. Its public part is listed here."""

from inference.evaluate.page.document import FIVE as FIVE
from inference.evaluate.page.document import about as about
from inference.evaluate.page.document import build as build
from inference.evaluate.page.document import figure as figure
from inference.evaluate.page.document import scaled as scaled
from inference.evaluate.page.dots import Dot as Dot
from inference.evaluate.page.dots import Row as Row
from inference.evaluate.page.dots import draw as draw
from inference.evaluate.page.markup import Cell as Cell
from inference.evaluate.page.markup import document as document
from inference.evaluate.page.markup import facts as facts
from inference.evaluate.page.markup import fold as fold
from inference.evaluate.page.markup import number as number
from inference.evaluate.page.markup import section as section
from inference.evaluate.page.markup import span as span
from inference.evaluate.page.markup import table as table
from inference.evaluate.page.markup import text as text
from inference.evaluate.page.tables import SIDES as SIDES
from inference.evaluate.page.tables import cell as cell
from inference.evaluate.page.tables import difference as difference
from inference.evaluate.page.tables import verdict_of as verdict_of
from inference.evaluate.page.texts import card as card
