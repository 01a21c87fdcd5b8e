"""The columns of our FOCUS files: those of FOCUS 1.2, and the columns of 1.3 and 1.4 that we can fill.

The two files have the same columns in the same order: first those of FOCUS by name, then our own, which begin with
`x_`. A file is valid as FOCUS 1.2; a loader for a later version finds that version's columns filled in too. FOCUS 1.4
replaced the provider and the publisher by the service provider and the host provider; we keep the old ones because 1.2
requires them.

Source: the FinOps Open Cost and Usage Specification, 1.2 to 1.4.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, NamedTuple

FOCUS_VERSION: Final = "1.2"  # the version as which the files are valid
SCHEMA_ID: Final = "tunemill-focus-1"  # a change of columns gets a new one
DIGITS: Final = 38  # of the widest decimal that Parquet readers agree on


class DataType(StrEnum):
    """The type of a column's cells, as a metadata file names it."""

    STRING = "STRING"
    DECIMAL = "DECIMAL"
    DATETIME = "DATETIME"
    JSON = "JSON"


class SplitRole(StrEnum):
    """The treatment of a column when a charge is divided among its payers."""

    DIMENSION = "dimension"  # every part repeats the value of the whole
    SUM = "sum"  # the parts add up to the whole
    PRICE = "price"  # a number, but the same for every part
    SHARE = "share"  # says something of the part alone


class FocusColumn(NamedTuple):
    """One column. `scale` is the number of decimals that a decimal may have."""

    name: str
    type: DataType
    since: str  # the version of FOCUS that brought it; "" for our own
    allows_null: bool
    role: SplitRole
    values: tuple[str, ...] = ()  # the closed list, where there is one
    scale: int = 0
    is_mandatory: bool = False  # FOCUS wants it in every file

    @property
    def is_ours(self) -> bool:
        """True when the column is not part of FOCUS."""
        return self.name.startswith("x_")


MONEY_DECIMALS: Final = 6
QUANTITY_DECIMALS: Final = 9  # of quantities and unit prices; their product has twice as many

CHARGE_CATEGORIES: Final = ("Adjustment", "Credit", "Purchase", "Tax", "Usage")
CHARGE_FREQUENCIES: Final = ("One-Time", "Recurring", "Usage-Based")
PRICING_CATEGORIES: Final = ("Committed", "Dynamic", "Other", "Standard")

# Which subcategories a category of services has; only those that renting machines can lead to are used by us,
# but a file from elsewhere is checked against all.
SUBCATEGORIES: Final[dict[str, tuple[str, ...]]] = {
    "AI and Machine Learning": (
        "AI Platforms",
        "Bots",
        "Generative AI",
        "Machine Learning",
        "Natural Language Processing",
        "Other (AI and Machine Learning)",
    ),
    "Analytics": (
        "Analytics Platforms",
        "Business Intelligence",
        "Data Processing",
        "Search",
        "Streaming Analytics",
        "Other (Analytics)",
    ),
    "Business Applications": ("Productivity and Collaboration", "Other (Business Applications)"),
    "Compute": (
        "Containers",
        "End User Computing",
        "Quantum Compute",
        "Serverless Compute",
        "Virtual Machines",
        "Other (Compute)",
    ),
    "Databases": (
        "Caching",
        "Data Warehouses",
        "Ledger Databases",
        "NoSQL Databases",
        "Relational Databases",
        "Time Series Databases",
        "Other (Databases)",
    ),
    "Developer Tools": (
        "Developer Platforms",
        "Continuous Integration and Deployment",
        "Development Environments",
        "Source Code Management",
        "Quality Assurance",
        "Other (Developer Tools)",
    ),
    "Identity": ("Identity and Access Management", "Other (Identity)"),
    "Integration": ("API Management", "Messaging", "Workflow Orchestration", "Other (Integration)"),
    "Internet of Things": ("IoT Analytics", "IoT Platforms", "Other (Internet of Things)"),
    "Management and Governance": (
        "Architecture",
        "Compliance",
        "Cost Management",
        "Data Governance",
        "Disaster Recovery",
        "Endpoint Management",
        "Observability",
        "Support",
        "Other (Management and Governance)",
    ),
    "Media": ("Content Creation", "Gaming", "Media Streaming", "Mixed Reality", "Other (Media)"),
    "Migration": ("Data Migration", "Resource Migration", "Other (Migration)"),
    "Mobile": ("Other (Mobile)",),
    "Multicloud": ("Multicloud Integration", "Other (Multicloud)"),
    "Networking": (
        "Application Networking",
        "Content Delivery",
        "Network Connectivity",
        "Network Infrastructure",
        "Network Routing",
        "Network Security",
        "Other (Networking)",
    ),
    "Security": (
        "Secret Management",
        "Security Posture Management",
        "Threat Detection and Response",
        "Other (Security)",
    ),
    "Storage": (
        "Backup Storage",
        "Block Storage",
        "File Storage",
        "Object Storage",
        "Storage Platforms",
        "Other (Storage)",
    ),
    "Web": ("Application Platforms", "Other (Web)"),
    "Other": ("Other (Other)",),
}


def _text(
    name: str, since: str, *, null: bool = True, values: tuple[str, ...] = (), mandatory: bool = False
) -> FocusColumn:
    return FocusColumn(name, DataType.STRING, since, null, SplitRole.DIMENSION, values, is_mandatory=mandatory)


def _instant(name: str) -> FocusColumn:
    return FocusColumn(name, DataType.DATETIME, "0.5", False, SplitRole.DIMENSION, is_mandatory=True)


def _money(name: str, since: str, scale: int, *, mandatory: bool = True) -> FocusColumn:
    return FocusColumn(name, DataType.DECIMAL, since, False, SplitRole.SUM, scale=scale, is_mandatory=mandatory)


def _quantity(name: str, since: str, *, mandatory: bool = False) -> FocusColumn:
    return FocusColumn(
        name, DataType.DECIMAL, since, True, SplitRole.SUM, scale=QUANTITY_DECIMALS, is_mandatory=mandatory
    )


def _price(name: str, since: str) -> FocusColumn:
    return FocusColumn(name, DataType.DECIMAL, since, True, SplitRole.PRICE, scale=QUANTITY_DECIMALS)


def _json(name: str, since: str, role: SplitRole = SplitRole.DIMENSION) -> FocusColumn:
    return FocusColumn(name, DataType.JSON, since, True, role)


def _share(name: str, since: str = "") -> FocusColumn:
    return FocusColumn(name, DataType.STRING, since, True, SplitRole.SHARE)


_FOCUS: Final = (
    _json("AllocatedMethodDetails", "1.3", SplitRole.SHARE),
    _share("AllocatedMethodId", "1.3"),
    _share("AllocatedResourceId", "1.3"),
    _share("AllocatedResourceName", "1.3"),
    _json("AllocatedTags", "1.3", SplitRole.SHARE),
    _money("BilledCost", "0.5", MONEY_DECIMALS),
    _text("BillingAccountId", "0.5", null=False, mandatory=True),
    _text("BillingAccountName", "0.5", mandatory=True),
    _text("BillingCurrency", "0.5", null=False, mandatory=True),
    _instant("BillingPeriodEnd"),
    _instant("BillingPeriodStart"),
    _text("ChargeCategory", "0.5", null=False, values=CHARGE_CATEGORIES, mandatory=True),
    _text("ChargeClass", "1.0", values=("Correction",), mandatory=True),
    _text("ChargeDescription", "1.0", mandatory=True),
    _text("ChargeFrequency", "1.0", null=False, values=CHARGE_FREQUENCIES),
    _instant("ChargePeriodEnd"),
    _instant("ChargePeriodStart"),
    _text("CommitmentDiscountStatus", "1.0", values=("Unused", "Used")),
    _quantity("ConsumedQuantity", "1.0"),
    _text("ConsumedUnit", "1.0"),
    _money("ContractedCost", "1.0", 2 * QUANTITY_DECIMALS),
    _price("ContractedUnitPrice", "1.0"),
    _money("EffectiveCost", "0.5", MONEY_DECIMALS),
    _text("HostProviderName", "1.3", null=False),
    _text("InvoiceDetailId", "1.4"),
    _text("InvoiceId", "1.2"),
    _text("InvoiceIssuerName", "0.5", null=False, mandatory=True),
    _money("ListCost", "1.0", 2 * QUANTITY_DECIMALS),
    _price("ListUnitPrice", "1.0"),
    _text("PricingCategory", "1.0", values=PRICING_CATEGORIES),
    _text("PricingCurrency", "1.2", null=False),
    _price("PricingCurrencyContractedUnitPrice", "1.2"),
    _money("PricingCurrencyEffectiveCost", "1.2", MONEY_DECIMALS, mandatory=False),
    _price("PricingCurrencyListUnitPrice", "1.2"),
    _quantity("PricingQuantity", "1.0", mandatory=True),
    _text("PricingUnit", "1.0", mandatory=True),
    _text("ProviderName", "0.5", null=False, mandatory=True),
    _text("PublisherName", "0.5", null=False, mandatory=True),
    _text("RegionId", "1.0"),
    _text("RegionName", "1.0"),
    _text("ResourceId", "0.5"),
    _text("ResourceName", "0.5"),
    _text("ResourceType", "1.0"),
    _text("ServiceCategory", "0.5", null=False, values=tuple(SUBCATEGORIES), mandatory=True),
    _text("ServiceName", "0.5", null=False, mandatory=True),
    _text("ServiceProviderName", "1.3", null=False),
    _text(
        "ServiceSubcategory",
        "1.1",
        null=False,
        values=tuple(each for many in SUBCATEGORIES.values() for each in many),
    ),
    _text("SkuId", "1.0"),
    _text("SkuMeter", "1.1"),
    _json("SkuPriceDetails", "1.1"),
    _text("SkuPriceId", "1.0"),
    _text("SubAccountId", "0.5"),
    _text("SubAccountName", "0.5"),
    _json("Tags", "1.0"),
)

_OURS: Final = (
    _text("x_Kind", "", null=False, values=("billed", "estimate", "provisional")),
    _text("x_OriginId", "", null=False),  # one row of the rental file; its parts in the allocation file name it
    _text("x_Source", ""),  # the invoice, or the price that an estimate rests on
    _share("x_Genre"),
    _share("x_Outcome"),
    _share("x_RunId"),
    _share("x_Zone"),
)

COLUMNS: Final[tuple[FocusColumn, ...]] = _FOCUS + _OURS
NAMES: Final = tuple(column.name for column in COLUMNS)
COLUMN_OF_NAME: Final = {column.name: column for column in COLUMNS}
SPLIT_COLUMNS: Final = tuple(column.name for column in COLUMNS if column.role is SplitRole.SHARE and not column.is_ours)
