"""The page on which people vote: plain forms, no script, nothing that tells whose a text is."""

import random
from collections import Counter
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, quote

from data.errors import ConfigError
from inference.evaluate.judging import Ballot, Pair
from inference.judges import RateConfig

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

_HEADERS = {
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; "
    "frame-ancestors 'none'; base-uri 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}
_CHOICES = {"left": 1.0, "right": 0.0, "neither": 0.5}
_LARGEST = 4_096
_ANY_HOST = ("0.0.0.0", "::", "")  # noqa: S104  # compared with, not bound to


@dataclass(frozen=True)
class Showing:
    """A pair as one person sees it."""

    place: int
    """In the person's order, from 0."""
    pair: Pair
    is_swapped: bool
    """Whether the other text is on the left."""


@dataclass
class Poll:
    """The pairs and everybody's ballots."""

    pairs: list[Pair]
    config: RateConfig
    ballots: dict[str, Ballot] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # The same pairs for everybody, so that there is an agreement to count.
        random.Random(self.config.seed).shuffle(self.pairs)  # noqa: S311  # no secret
        self.pairs = self.pairs[: self.config.pairs]

    def order(self, person: str) -> list[Showing]:
        """Return what a person is shown: all pairs, then some again with their sides swapped."""
        chance = random.Random(f"{self.config.seed}\0{person}")  # noqa: S311
        own = chance.sample(self.pairs, len(self.pairs))
        shown = [Showing(i, pair, chance.random() < 0.5) for i, pair in enumerate(own)]
        again = shown[: self.config.repeats]
        return shown + [
            Showing(len(shown) + i, first.pair, not first.is_swapped)
            for i, first in enumerate(again)
        ]

    def ballot(self, person: str) -> Ballot:
        """Return a person's votes so far."""
        if person not in self.ballots:
            self.ballots[person] = Ballot.open(self.config.out, person)
        return self.ballots[person]

    def next(self, person: str) -> Showing | None:
        """Return what a person votes on next; None: nothing is left."""
        cast = Counter(vote.pair for vote in self.ballot(person).votes)
        for showing in self.order(person):
            if not cast[showing.pair.key]:
                return showing
            cast[showing.pair.key] -= 1
        return None

    def vote(self, person: str, place: str, choice: str) -> None:
        """Keep a vote; one on another pair than the next, as of a second click, is none.

        Raises:
            ConfigError: there is no such choice or name.
        """
        if choice not in _CHOICES:
            raise ConfigError("choice", "left, right or neither", repr(choice[:80]))
        showing = self.next(person)
        if showing is not None and place == str(showing.place):
            score = _CHOICES[choice]
            self.ballot(person).cast(showing.pair.key, 1 - score if showing.is_swapped else score)


def make_app(poll: Poll) -> "Starlette":
    """Put together the page and what its forms post to."""
    from starlette.applications import Starlette
    from starlette.middleware import Middleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware
    from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse
    from starlette.routing import Route

    async def show(request: "Request") -> "Response":
        return HTMLResponse(build(poll, request.query_params.get("person", "")), headers=_HEADERS)

    async def vote(request: "Request") -> "Response":
        # Another page's form must not vote here.
        host = request.headers.get("host", "")
        if request.headers.get("origin", f"http://{host}") not in (
            f"http://{host}", f"https://{host}",
        ):  # fmt: skip
            return PlainTextResponse("origin: expected this page, found another\n", 403)
        body = b""
        async for piece in request.stream():
            body += piece
            if len(body) > _LARGEST:
                return PlainTextResponse("body: expected a vote, found more\n", 413)
        fields = {name: values[0] for name, values in parse_qs(body.decode("latin-1")).items()}
        person = fields.get("person", "")
        poll.vote(person, fields.get("place", ""), fields.get("choice", ""))
        return RedirectResponse(f"/?person={quote(person)}", 303)

    async def refuse(_request: "Request", error: Exception) -> "Response":
        return PlainTextResponse(f"{error}\n", 400)

    hosts = [poll.config.host, "localhost", "127.0.0.1", "[::1]"]
    allowed = ["*"] if poll.config.host in _ANY_HOST else hosts
    return Starlette(
        routes=[Route("/", show), Route("/vote", vote, methods=["POST"])],
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=allowed)],
        exception_handlers={ConfigError: refuse},
    )


def build(poll: Poll, person: str) -> str:
    """Build the page: who votes, the next pair, or thanks."""
    if not person.strip():
        body = _FORM_OF_NAME
    elif (showing := poll.next(person)) is None:
        body = "<p class=done>That was all. Thank you!</p>"
    else:
        texts = [showing.pair.one, showing.pair.other]
        left, right = reversed(texts) if showing.is_swapped else texts
        body = _FORM_OF_VOTE.format(
            title=escape(showing.pair.title), left=escape(left), right=escape(right),
            person=escape(person), place=showing.place, number=showing.place + 1,
            whole=len(poll.order(person)),
        )  # fmt: skip
    template = Path(__file__).with_name("page.html").read_text("utf-8")
    return Template(template).substitute(body=body)


_FORM_OF_NAME = (
    '<form method="get" action="/"><p>You will see two descriptions of a product at a time. Choose '
    "the one that you would print: true to the title, readable, without repetition or invention."
    '</p><label>Your name <input name="person" required maxlength="64" autofocus></label> '
    "<button>Begin, or go on</button></form>"
)
_FORM_OF_VOTE = (
    '<form method="post" action="/vote"><p class=count>{number} of {whole}</p><h2>{title}</h2>'
    '<input type="hidden" name="person" value="{person}">'
    '<input type="hidden" name="place" value="{place}">'
    "<div class=pair><div><p>{left}</p></div><div><p>{right}</p></div></div>"
    '<div class=choices><button name="choice" value="left" accesskey="1">Left is better</button>'
    '<button name="choice" value="neither" accesskey="2">Neither</button>'
    '<button name="choice" value="right" accesskey="3">Right is better</button></div></form>'
)
