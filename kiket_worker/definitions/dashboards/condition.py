"""Conditions of alerts: a small language over the rows of a query.

    condition  = term {"or" term}            term   = factor {"and" factor}
    factor     = "not" factor | comparison   comparison = sum [("<" | "<=" | ">" | ">=" | "=" | "==" | "!=" | "<>") sum
                                                               | "is" ["not"] "null"]
    sum        = product {("+" | "-") product}     product = signed {("*" | "/") signed}
    signed     = "-" signed | value
    value      = number | 'text' | "text" | true | false | null | :parameter | column
               | function "(" column ")" | "count" "(" "*" ")" | "(" condition ")"

Words of the language are read in any case; columns are those of the query's output, as they are written.
"""

import re
from dataclasses import dataclass
from enum import Enum, auto

_MOST_CHARACTERS = 1_000
_MOST_DEPTH = 30
_FUNCTIONS = frozenset({"count", "sum", "avg", "min", "max"})
_WORDS = frozenset({"and", "or", "not", "is", "null", "true", "false"})
_COMPARISONS = frozenset({"<", "<=", ">", ">=", "=", "==", "!=", "<>"})
_TOKEN = re.compile(
    r"""(?P<number>[0-9]+(?:\.[0-9]+)?)(?![A-Za-z0-9_.])
      | (?P<word>[A-Za-z_][A-Za-z0-9_]*)
      | :(?P<parameter>[A-Za-z_][A-Za-z0-9_]*)
      | (?P<text>'[^'\\]*'|"[^"\\]*")
      | (?P<sign><=|>=|==|!=|<>|[<>=+\-*/()])""",
    re.VERBOSE,
)


class InvalidCondition(ValueError):
    """A text that is no condition; `position` counts characters from 1."""

    def __init__(self, position: int, message: str) -> None:
        super().__init__(f"{message} (character {position})")
        self.position = position


@dataclass(frozen=True)
class Names:
    """What a condition uses: columns of its query's output, and parameters. Each once, in their order."""

    columns: tuple[str, ...]
    parameters: tuple[str, ...]


class _Kind(Enum):
    TRUTH = auto()
    VALUE = auto()
    EITHER = auto()  # A column, a parameter, true, false and null can be used as both.


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    position: int


def parse_condition(text: str) -> Names:
    """The names that a condition uses. Raises `InvalidCondition`."""
    if len(text) > _MOST_CHARACTERS:
        raise InvalidCondition(_MOST_CHARACTERS + 1, f"a condition has at most {_MOST_CHARACTERS} characters")
    return _Parser(text).names()


def _tokens(text: str) -> list[_Token]:
    tokens = []
    position = 0
    while position < len(text):
        if text[position].isspace():
            position += 1
            continue
        match = _TOKEN.match(text, position)
        if match is None or match.lastgroup is None:
            raise InvalidCondition(position + 1, f"{text[position]!r} is not understood here")
        kind, found = match.lastgroup, match[match.lastgroup]
        if kind == "sign" or (kind == "word" and found.lower() in _WORDS):
            kind, found = found.lower(), found.lower()
        tokens.append(_Token(kind, found, position + 1))
        position = match.end()
    return [*tokens, _Token("end", "the end", len(text) + 1)]


class _Parser:
    def __init__(self, text: str) -> None:
        self._tokens = _tokens(text)
        self._next = 0
        self._depth = -1  # The whole condition is nested in nothing.
        self._columns: dict[str, None] = {}
        self._parameters: dict[str, None] = {}

    def names(self) -> Names:
        start = self._token
        self._need(self._condition(), _Kind.TRUTH, start)
        if self._token.kind != "end":
            raise self._unexpected("the end, 'and' or 'or'")
        return Names(tuple(self._columns), tuple(self._parameters))

    @property
    def _token(self) -> _Token:
        return self._tokens[self._next]

    def _take(self) -> _Token:
        token = self._token
        self._next += 1
        return token

    def _unexpected(self, wanted: str) -> InvalidCondition:
        return InvalidCondition(self._token.position, f"here should be {wanted}, and not {self._token.text!r}")

    @staticmethod
    def _need(kind: _Kind, wanted: _Kind, token: _Token) -> None:
        if kind is _Kind.EITHER or kind is wanted:
            return
        if wanted is _Kind.TRUTH:
            raise InvalidCondition(token.position, "here should be a comparison, and not a mere value")
        raise InvalidCondition(token.position, "here should be a value, and not a comparison")

    def _condition(self) -> _Kind:
        self._depth += 1
        if self._depth > _MOST_DEPTH:
            raise InvalidCondition(self._token.position, f"a condition is nested at most {_MOST_DEPTH} times")
        kind = self._chain(("or",))
        self._depth -= 1
        return kind

    def _chain(self, words: tuple[str, ...]) -> _Kind:
        """Terms joined by `or`, each of factors joined by `and`."""

        def operand() -> _Kind:
            return self._chain(("and",)) if words == ("or",) else self._factor()

        start = self._token
        kind = operand()
        while self._token.kind in words:
            self._need(kind, _Kind.TRUTH, start)
            self._take()
            start = self._token
            self._need(operand(), _Kind.TRUTH, start)
            kind = _Kind.TRUTH
        return kind

    def _factor(self) -> _Kind:
        is_negated = False
        while self._token.kind == "not":
            self._take()
            is_negated = True
        start = self._token
        kind = self._comparison()
        if is_negated:
            self._need(kind, _Kind.TRUTH, start)
            return _Kind.TRUTH
        return kind

    def _comparison(self) -> _Kind:
        start = self._token
        kind = self._arithmetic(("+", "-"))
        if self._token.kind in _COMPARISONS:
            self._need(kind, _Kind.VALUE, start)
            self._take()
            start = self._token
            self._need(self._arithmetic(("+", "-")), _Kind.VALUE, start)
            return _Kind.TRUTH
        if self._token.kind == "is":
            self._need(kind, _Kind.VALUE, start)
            self._take()
            if self._token.kind == "not":
                self._take()
            if self._token.kind != "null":
                raise self._unexpected("'null'")
            self._take()
            return _Kind.TRUTH
        return kind

    def _arithmetic(self, signs: tuple[str, ...]) -> _Kind:
        """Products joined by signs of sums, each of values joined by signs of products."""

        def operand() -> _Kind:
            return self._arithmetic(("*", "/")) if signs == ("+", "-") else self._signed()

        start = self._token
        kind = operand()
        while self._token.kind in signs:
            self._need(kind, _Kind.VALUE, start)
            self._take()
            start = self._token
            self._need(operand(), _Kind.VALUE, start)
            kind = _Kind.VALUE
        return kind

    def _signed(self) -> _Kind:
        is_negative = False
        while self._token.kind == "-":
            self._take()
            is_negative = True
        start = self._token
        kind = self._value()
        if is_negative:
            self._need(kind, _Kind.VALUE, start)
            return _Kind.VALUE
        return kind

    def _value(self) -> _Kind:
        match self._token.kind:
            case "number" | "text":
                self._take()
                return _Kind.VALUE
            case "true" | "false" | "null":
                self._take()
                return _Kind.EITHER
            case "parameter":
                self._parameters[self._take().text] = None
                return _Kind.EITHER
            case "word":
                return self._column_or_call()
            case "(":
                self._take()
                kind = self._condition()
                self._close()
                return kind
        raise self._unexpected("a column, a number or another value")

    def _column_or_call(self) -> _Kind:
        token = self._take()
        if self._token.kind != "(":
            self._columns[token.text] = None
            return _Kind.EITHER
        name = token.text.lower()
        if name not in _FUNCTIONS:
            known = ", ".join(sorted(_FUNCTIONS))
            raise InvalidCondition(token.position, f"{token.text!r} is no function; there are {known}")
        self._take()
        if name == "count" and self._token.kind == "*":
            self._take()
        elif self._token.kind == "word":
            self._columns[self._take().text] = None
        else:
            raise self._unexpected("a column")
        self._close()
        return _Kind.VALUE

    def _close(self) -> None:
        if self._token.kind != ")":
            raise self._unexpected("')'")
        self._take()
