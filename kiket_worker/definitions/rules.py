"""The rules of definition repositories: each has a name, a severity, and an entry in docs/definition-rules.md."""

from kiket_worker.definitions.dashboards.rules import DASHBOARD_RULES
from kiket_worker.definitions.problem import Rule, Severity

PAGE = "docs/definition-rules.md"


def _error(name: str, title: str, why: str) -> Rule:
    return Rule(name, Severity.ERROR, title, why)


def _warning(name: str, title: str, why: str) -> Rule:
    return Rule(name, Severity.WARNING, title, why)


# Files.
REPOSITORY_SIZE = _error(
    "repository-size",
    "A repository is small enough to be looked at",
    "At most 5,000 files and folders lie where definitions are, 8 MiB together, of that 1 MiB YAML, with at most 200 "
    "models.",
)
FILE_KIND = _error(
    "file-kind",
    "Definitions are plain files inside the repository",
    "A link may lead to another file of the repository, and nowhere else; folders behind links are not read.",
)
FILE_NAME = _error(
    "file-name",
    "Paths are written with letters, digits, '_', '-' and '.'",
    "Other characters mean something else to some system on the way.",
)
FILE_CASE = _error(
    "file-case", "Paths differ in more than case", "On many systems two such files are one, and one would be lost."
)
FILE_SIZE = _error("file-size", "A file has at most 256 KiB", "What is larger is no definition, and is read by nobody.")
FILE_TEXT = _error(
    "file-text", "Files are UTF-8 texts", "A definition in another encoding would be read as another one."
)
FILE_EMPTY = _error("file-empty", "Files are not empty", "An empty file is a slip: something was meant to be there.")
FILE_LINE_ENDS = _warning(
    "file-line-ends",
    "Lines end in line feeds",
    "Carriage returns are read as line feeds, so that the same definition has the same digest from every editor.",
)

# YAML.
YAML_SYNTAX = _error(
    "yaml-syntax",
    "YAML files can be read",
    "Tags, merged keys and numbers of more than 100 digits are not read either: write plainly.",
)
YAML_DUPLICATE_KEY = _error(
    "yaml-duplicate-key", "A key stands once", "YAML would take one of the values, and not say which."
)
YAML_ANCHOR = _error(
    "yaml-anchor", "YAML has no anchors and aliases", "A few lines of them can stand for gigabytes: write values out."
)
YAML_SIZE = _error(
    "yaml-size", "YAML documents are of a bearable size", "At most 50,000 values, nested at most 40 levels deep."
)
YAML_SHAPE = _error(
    "yaml-shape",
    "YAML of dbt describes the overlay's own resources",
    "A file is a mapping of `models`, `sources`, `seeds`, `macros`, `exposures`, `unit_tests` and the like, each a "
    "list of mappings with a `name`, which is not empty. Snapshots, metrics, saved queries and semantic models are "
    "not built.",
)

# Names.
MODEL_NAME = _error(
    "model-name",
    "Models and seeds have names that need no quotes",
    "Small letters, digits and '_', beginning with a letter, and at most 51 characters: dbt adds twelve of its own, "
    "and Postgres cuts names at 63.",
)
MODEL_KEYWORD = _error(
    "model-keyword", "No model is called like a keyword of SQL", "Whoever writes `from user` would get something else."
)
MODEL_CLASH = _error("model-clash", "A name is one model's", "Models and seeds of an organisation share their names.")
CORE_OVERRIDE = _error(
    "core-override",
    "The core project is left as it is",
    "What the core project has, other dashboards rely on: models, macros and sources of its names cannot be replaced "
    "or described anew.",
)
REF_MISSING = _error(
    "ref-missing",
    "`ref` names a model that there is",
    "Core models and the overlay's own count. Names are given by position, as dbt reads them, not by keywords.",
)
SOURCE_MISSING = _error(
    "source-missing",
    "`source` names a table that is declared",
    "In the core project or here. Both names are given by position, as dbt reads them.",
)
SOURCE_SCHEMA = _error(
    "source-schema",
    "Sources lie where the organisation's rows are",
    "In its own schema, or in that of the platform's raw tables, by a variable: others are somebody else's.",
)
SEED_HEADER = _error(
    "seed-header",
    "The first line of a seed names its columns",
    "dbt puts these names between quotation marks, and one that has such a mark itself would end there.",
)
REF_CYCLE = _error(
    "ref-cycle", "Models do not refer to themselves", "Not by way of others either: none could be first."
)

# Jinja.
JINJA_SYNTAX = _error("jinja-syntax", "Jinja can be read", "dbt would stop at it.")
JINJA_FORBIDDEN = _error(
    "jinja-forbidden",
    "Jinja of overlays only prints",
    "What asks the database while it renders, reads the environment, or reaches into dbt, could do what SQL may not. "
    "There is `ref`, `source`, `var`, `this`, `is_incremental`, `config`, macros of the overlay and of the core "
    "project, and dbt's cross-database macros.",
)
JINJA_TENANT = _error(
    "jinja-tenant",
    "Jinja prints the organisation and the time, and looks at neither",
    "What is compared, cut up or counted could make other SQL for another organisation, or on another day, than what "
    "was tried here. Compare in SQL: there is `{{ current_day() }}`, and `{{ tenant_filter('organization_id') }}`.",
)
MACRO_OVERRIDE = _error(
    "macro-override",
    "Macros have names of their own",
    "A macro that is called like one of dbt's or of the core project, or like one that dbt looks for by an adapter's "
    "name, would replace it for all models.",
)
MATERIALIZATION = _error(
    "materialization",
    "Models are views, tables, incremental or ephemeral",
    "Others, and materialisations of one's own, are not run for organisations.",
)
HOOK = _error("hook", "Models have no hooks", "Hooks are statements that nobody has looked at.")
CONFIG_KEY = _error(
    "config-key",
    "Configuration says how a model is built, not where and for whom",
    "Schema, database, alias, grants and the like belong to the platform.",
)
EXPOSURE = _error(
    "exposure",
    "Exposures say what they are and who owns them",
    "`name`, `type` and `owner` with a name or email are there, and `depends_on` lists `ref` and `source` that there "
    "are.",
)
EXPOSURE_MATURITY = _warning(
    "exposure-maturity", "Exposures say how mature they are", "`maturity` is high, medium or low."
)

# SQL.
SQL_SYNTAX = _error("sql-syntax", "SQL can be read", "What cannot be read cannot be judged.")
SQL_SELECT = _error(
    "sql-select",
    "A model is one SELECT",
    "One statement, that writes nothing: no `;` with another one behind it, no data-modifying CTE, no `into`, no lock.",
)
SQL_TABLE = _error(
    "sql-table",
    "Tables are named by `ref` and `source`",
    "A name without a schema may be anybody's table, and one with another schema is somebody's; besides, dbt would not "
    "know what to build first.",
)
SQL_FUNCTION = _error(
    "sql-function",
    "Functions of models compute",
    "Those that read files, reach other servers, change the session, signal, lock or sleep are refused, although the "
    "organisation's role could do no harm with them.",
)
SQL_CATALOG = _error(
    "sql-catalog",
    "Models do not read Postgres' catalogs",
    "`pg_catalog` and `information_schema` show names of other organisations.",
)
SQL_SIZE = _error("sql-size", "A compiled model has at most 512 KiB", "Postgres would take long only to plan it.")
TENANCY_FILTER = _warning(
    "tenancy-filter",
    "Models over raw tables filter by organisation",
    "Each SELECT with a raw table in its FROM has a condition on `organization_id` in its own WHERE or JOIN, best by "
    "`tenant_filter`. The database shows an organisation its own rows only; the filter keeps a model right, and fast, "
    "where an installation has one role for all.",
)

# dbt and Postgres.
DBT = _error("dbt", "dbt can read the project", "In dbt's own words, where no other rule has found it before.")
PARSE_LIMIT = _error(
    "parse-limit",
    "Definitions are read in bounded time and memory",
    "Jinja that loops for very long, or makes gigabytes of text, is stopped.",
)
DATABASE = _error(
    "database",
    "Postgres builds each model",
    "Each model is built without rows, in a schema of its own, as a role like the organisation's; these are Postgres' "
    "words, as for a column that is not there.",
)

CORE_RULES = tuple(value for value in vars().copy().values() if isinstance(value, Rule))
RULES = (*CORE_RULES, *DASHBOARD_RULES)
BY_NAME = {rule.name: rule for rule in RULES}
