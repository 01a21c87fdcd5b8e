"""Rules: each rule that our FOCUS files must obey, and the text that reports a breach of it.

Source: the requirements of FOCUS 1.2 for these columns and the split cost allocation of 1.3, stricter where our files
promise more (six decimals, whole seconds, vendor and issuer the same).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import NamedTuple

Cells = Mapping[str, str]  # a row as read; "" is null


class Rule(StrEnum):
    """A rule that a file can break."""

    COLUMN_MISSING = "a column is missing"
    COLUMN_UNKNOWN = "a column is neither FOCUS's nor begins with x_"
    COLUMN_TWICE = "a column is there twice"
    COLUMN_ORDER = "columns of FOCUS come before those that begin with x_"
    CELL_COUNT = "a row has a cell for every column"
    NOT_NULL = "a column that allows no null has a value"
    PLACEHOLDER = "null is an empty cell and no word for it"
    DECIMAL = "a number is written plainly"
    MONEY_DECIMALS = "billed and effective cost have six decimals"
    SCALE = "a number has no more decimals than its column"
    INSTANT = "an instant is UTC, to the second, and ends with Z"
    JSON = "an object is flat JSON with keys that are there once"
    CLOSED_LIST = "a value is on the closed list of its column"
    CURRENCY = "a currency is three capital letters"
    FORMULA = "no text begins like a formula"
    COMMITMENT = "no commitment, no status of one"
    PRICED = "usage and purchases have SKU, prices and a priced quantity"
    CONSUMED = "usage, and only usage, has a consumed quantity"
    TAX_WITHOUT_PRICE = "a tax has neither SKU nor price"
    CREDIT_WITHOUT_QUANTITY = "a credit or an adjustment counts nothing"
    TOGETHER = "two columns are null together"
    NEEDS = "a column is null when the one that it explains is"
    FREQUENCY = "a purchase is not usage-based"
    PRICE_SIGN = "a unit price is not negative"
    LIST_COST = "list cost is list price times quantity"
    CONTRACTED_COST = "contracted cost is contracted price times quantity"
    UNPRICED_COST = "list and contracted cost of what has no price are its amount"
    EFFECTIVE_COST = "effective cost is the billed one, none for a purchase, or all of what is paid elsewhere"
    SAME_CURRENCY = "in one currency, prices and costs are the same in both"
    PERIOD_ORDER = "a period ends after it starts"
    PERIOD_WITHIN = "a charge lies within its billing period unless it corrects an earlier one"
    VENDOR = "provider, publisher, service and host provider are one"
    ISSUER = "what another issuer is paid for is not billed"
    SERVICE = "a service has one category and one subcategory"
    SUBCATEGORY = "a subcategory belongs to its category"
    SKU_PRICE = "a price of a SKU belongs to one SKU"
    INVOICE_SUM = "billed cost of an invoice adds up to its total"
    ORIGIN_TWICE = "a row of the rental file has an id of its own"
    NOT_SPLIT = "the rental file allocates nothing"
    SPLIT_METHOD = "an allocated row names its method and its share"
    UNALLOCATED = "what has no allocated resource has neither name nor tags of one"
    ALLOCATED_TAGS = "allocated tags repeat no tag of the charge"
    ORIGIN_KNOWN = "an allocated row has an origin"
    ORIGIN_SPLIT = "every origin is allocated"
    ORIGIN_SAME = "an allocated row repeats what its origin says"
    ORIGIN_SUM = "allocated costs and quantities add up to those of the origin"
    ORIGIN_RATIO = "shares of an origin add up to one"


class Breach(NamedTuple):
    """A rule that does not hold. Rows count from 1, without the header; 0 is the file itself."""

    rule: Rule
    row: int
    column: str
    what: str


Found = Iterator[tuple[Rule, str, str]]  # rule, column, what
