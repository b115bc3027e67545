"""Traces that several tests use."""

from mmkd.traces.schema import Query, Sampling, Trace, row_key


def make_trace(uid='a', question='q', answer='x', teacher='t', sample=0, **changes):
    """A finished trace with its proper key."""
    names = set(Query.model_fields)
    own = {name: changes.pop(name) for name in list(changes) if name in names}
    query = Query(source_uid=uid, user_text=question, **own)
    given = dict(
        row_key=row_key(query, teacher, Sampling(), sample),
        teacher=teacher,
        sample_index=sample,
        response_text=answer,
        finish_reason='stop',
    )
    return Trace(**query.model_dump(), **{**given, **changes})
