"""Which query a widget or an alert has, of its own or by name."""

from collections.abc import Mapping
from dataclasses import dataclass

from kiket_worker.definitions.dashboards import rules
from kiket_worker.definitions.dashboards.document import NamedQuery, QueryConfig, Source
from kiket_worker.definitions.dashboards.reading import Reading, did_you_mean, quoted

Columns = Mapping[str, str]


@dataclass(frozen=True)
class Sources:
    """Query files by their ids, and models with their columns; None where a model could not be built."""

    queries: Mapping[str, NamedQuery]
    models: Mapping[str, Columns | None]
    # A query file that cannot be read may have any id.
    knows_all_queries: bool

    def columns(self, reading: Reading, config: QueryConfig, what: str) -> Columns | None:
        """The columns of a query's model; None where there are none to check against."""
        if config.model not in self.models:
            reading.add(
                rules.MODEL,
                config.line,
                f"{what} reads {quoted(config.model)}, which is no model{did_you_mean(config.model, self.models)}",
                "name a mart of the core project or a model of this repository",
            )
            return None
        return self.models[config.model]

    def config(self, reading: Reading, source: Source, what: str) -> QueryConfig | None:
        """The query of a source, None where it has none that can be checked."""
        name, config = source.name, source.config
        if config is not None:
            if name not in {None, config.model}:
                reading.add(
                    rules.QUERY_CONFLICT,
                    source.line,
                    f"{what} names {quoted(str(name))} under 'query', and reads {quoted(config.model)} under "
                    "'query_config'",
                    "take one of the two away",
                )
            return config
        assert name is not None
        if name in self.queries:
            return self.queries[name].config
        if name in self.models:
            return QueryConfig(name, line=source.line)
        if self.knows_all_queries:
            known = [*self.queries, *self.models]
            reading.add(
                rules.UNKNOWN_QUERY,
                source.line,
                f"{what} has the query {quoted(name)}, which is neither a query file's id nor a model"
                f"{did_you_mean(name, known)}",
                "name a file in .kiket/analytics/queries by its id, or a model",
            )
        return None

    def is_named(self, source: Source) -> bool:
        """Whether a source is a query file's, which is checked with that file."""
        return source.config is None and source.name in self.queries
