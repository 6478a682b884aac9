"""The rules of dashboards, queries and alerts."""

from kiket_worker.definitions.problem import Rule, Severity

SHAPE = Rule(
    "dashboard-shape",
    Severity.ERROR,
    "A value is missing or of another kind than its key takes",
    "What cannot be read is not shown. docs/dashboards.md has every key and what it takes.",
)
VERSION = Rule(
    "dashboard-version",
    Severity.ERROR,
    'The file does not say `model_version: "1.0"`',
    "The version says how the file is read. It is a text: a number loses the zero of 1.10.",
)
KEY = Rule(
    "dashboard-key",
    Severity.WARNING,
    "A key that is not known",
    "It is ignored, so that a key with a slip of the pen would do nothing, and silently.",
)
SIZE = Rule(
    "dashboard-size",
    Severity.ERROR,
    "More of something than a dashboard may have",
    "Each widget is a query, at each look at the page. Lists are limited so that one file cannot use up a database.",
)
NAME = Rule(
    "dashboard-name",
    Severity.ERROR,
    "A name that Postgres or an address cannot hold",
    "Postgres cuts names after 63 bytes, so that two would become one; ids stand in addresses.",
)
DASHBOARD_ID = Rule(
    "dashboard-id",
    Severity.ERROR,
    "Two dashboards have the same id",
    "Links and permissions name a dashboard by its id, and of two only one can be shown.",
)
WIDGET_ID = Rule(
    "widget-id",
    Severity.ERROR,
    "Two widgets of a dashboard have the same id",
    "A widget is found by its id: of two, one would get the other's rows.",
)
WIDGET_TYPE = Rule(
    "widget-type",
    Severity.WARNING,
    "A type of widget that is not known",
    "A newer platform may know it. Its query is checked all the same.",
)
MODEL = Rule(
    "widget-model",
    Severity.ERROR,
    "A query of a model that is not there",
    "Queries read the core project's marts and the models of the repository itself.",
)
COLUMN = Rule(
    "widget-column",
    Severity.ERROR,
    "A column that the model does not have",
    "The widget would be empty or fail for every reader.",
)
UNSELECTED = Rule(
    "widget-column-unselected",
    Severity.WARNING,
    "A widget shows a column that its query does not select",
    "The model has the column, but the rows that the widget gets do not.",
)
ALIAS = Rule(
    "widget-alias",
    Severity.ERROR,
    "Two columns of a query have the same name",
    "A row has one value for each name, so that one of the two would be lost.",
)
VALUE = Rule(
    "widget-value",
    Severity.ERROR,
    "A filter's value is not of its column's type",
    "Such a filter finds nothing, or Postgres refuses it.",
)
REFUSED = Rule(
    "widget-query",
    Severity.ERROR,
    "Postgres refuses the query",
    "Each query is prepared on the built relations; what Postgres says of it is what readers would see.",
)
PARAMETER_UNDECLARED = Rule(
    "parameter-undeclared",
    Severity.ERROR,
    "A parameter is used and not declared",
    "Only declared parameters get a value, and its type is what the value is checked against.",
)
PARAMETER_UNUSED = Rule(
    "parameter-unused",
    Severity.WARNING,
    "A parameter is declared and not used",
    "Readers would have to give a value that changes nothing; often a filter was forgotten.",
)
PARAMETER_TYPE = Rule(
    "parameter-type",
    Severity.ERROR,
    "A parameter's type is not known, or does not fit where it is used",
    "Types are integer, string, date and boolean; a column is compared only with its own kind.",
)
PARAMETER_DEFAULT = Rule(
    "parameter-default",
    Severity.ERROR,
    "A parameter's default is not of its type",
    "It is the value of whoever gives none.",
)
QUERY_ID = Rule(
    "query-id",
    Severity.ERROR,
    "Two query files have the same id",
    "Widgets name a query by its id, and two would be one by chance.",
)
UNKNOWN_QUERY = Rule(
    "query-unknown",
    Severity.ERROR,
    "A widget names a query that is not there",
    "`query` names a query file by its id, or a model.",
)
QUERY_CONFLICT = Rule(
    "query-conflict",
    Severity.ERROR,
    "`query` and `query_config` disagree",
    "A widget has one query. Where both are written, `query` repeats the model's name.",
)
UNCHECKED = Rule(
    "query-unchecked",
    Severity.WARNING,
    "A query that is not of this format",
    "Queries over the platform's own records and hand-written SQL are not run on analytics models, and not checked.",
)
CONDITION = Rule(
    "alert-condition",
    Severity.ERROR,
    "An alert's condition cannot be read",
    "An alert whose condition is never evaluated never tells anybody.",
)
ROLES = Rule(
    "alert-roles",
    Severity.ERROR,
    "An alert has nobody to tell",
    "`notify_roles` names at least one role.",
)

DASHBOARD_RULES = (
    SHAPE,
    VERSION,
    KEY,
    SIZE,
    NAME,
    DASHBOARD_ID,
    WIDGET_ID,
    WIDGET_TYPE,
    MODEL,
    COLUMN,
    UNSELECTED,
    ALIAS,
    VALUE,
    REFUSED,
    PARAMETER_UNDECLARED,
    PARAMETER_UNUSED,
    PARAMETER_TYPE,
    PARAMETER_DEFAULT,
    QUERY_ID,
    UNKNOWN_QUERY,
    QUERY_CONFLICT,
    UNCHECKED,
    CONDITION,
    ROLES,
)
