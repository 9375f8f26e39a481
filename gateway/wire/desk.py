"""From a parsed body and a known key to a Request: facts settled, needs read, the name resolved.

What follows from (view, key, what was declared) is the same for every request that shares them, and is remembered.
"""

import difflib
from collections.abc import Mapping, Sequence
from typing import Final

from gateway.core.answer import Problem
from gateway.core.exchange import Needs, Request
from gateway.core.facts import NO, YES, RequestFacts, group_of
from gateway.core.masks import bits
from gateway.core.memo import Memo
from gateway.core.policy import Key, resolve
from gateway.core.view import View
from gateway.wire.api import Api, Parsed
from gateway.wire.apis import APIS
from gateway.wire.declared import PREFIX, Declared, declared, settled
from gateway.wire.heads import Head
from gateway.wire.text import Estimator, Script, languages_of

TEXT_ONLY: Final = frozenset({"tools", "json_schema"})  # abilities that a prompt of text alone may need
REMEMBERED_CHARS_MAX: Final = 256  # of the headers of one request that declare something; longer ones are read each time

_Values = frozenset[str]
Settled = tuple[_Values, _Values, _Values, _Values, _Values, _Values, _Values, _Values]
"""What key and declarations come to: tenant, group, key, region, data_class, categories, task, tag."""


class Desk:
    """Makes requests of one view. A new view gets a new desk; the estimator outlives both."""

    def __init__(self, view: View, estimator: Estimator) -> None:
        self.view = view
        self._estimator = estimator
        self._settled: Memo[tuple[str, Declared], Settled] = Memo()
        self._declared: Memo[tuple[tuple[str, str], ...], Declared] = Memo()
        self._asked: Memo[str, frozenset[str]] = Memo()
        self._languages: dict[Script, frozenset[str]] = {}
        self._names: Memo[str, tuple[str, ...]] = Memo()
        self._sessions = view.snapshot.policy.affinity is not None

    def request(
        self,
        api: Api,
        parsed: Parsed,
        body_bytes: int,
        key: Key,
        head: Head,
        identifier: str,
        client_id: str,
        began: float,
    ) -> tuple[Request, Script | None]:
        """The Request that a parsed body makes of `api`. Raises Problem (400, 403, 404).

        `began` in UTC seconds. The script is for the estimator's lesson afterwards.
        """
        body, reading = parsed.body, parsed.reading
        if reading is None:
            api.check(body)
        said = self._said(head, body.pop("gateway", None))
        if reading is None:
            reading = api.read(body)
        needs = reading.needs(body, self._estimator)
        asked, stream = body["model"], bool(body.get("stream"))
        facts = self.facts(api.fact, key, said, self.asked(asked, key), needs, reading.script, stream=stream)
        wants_usage = bool((body.get("stream_options") or {}).get("include_usage"))
        request = Request(
            identifier, client_id, api.name, asked, facts, needs, body, body_bytes, stream, wants_usage, key.disclose, began,
            head.wish(), head.session() if self._sessions else "",
        )  # fmt: skip - in their order: by name they take twice as long
        return request, reading.script

    def _said(self, head: Head, body: object) -> Declared:
        """What is declared. Callers send the same few headers again and again, and reading them takes 5 µs."""
        if body is not None:
            return declared(head.headers, body)
        if head.said is None:
            ours = tuple([pair for pair in head.headers if pair[0].startswith(PREFIX)])
            said = self._declared.get(ours)
            if said is None:
                said = declared(ours, None)
                if sum(len(value) for _, value in ours) <= REMEMBERED_CHARS_MAX:
                    self._declared.keep(ours, said)
            head.said = said
        return head.said

    def facts(
        self,
        api: frozenset[str],
        key: Key,
        said: Declared,
        asked: frozenset[str],
        needs: Needs,
        script: Script | None,
        *,
        stream: bool,
    ) -> RequestFacts:
        """All facts of a request. `script` None: of no text (yet), so it may be in any language. Raises Problem (400, 403)."""
        settled = self._settled.get((key.id, said)) or self._settle(key, said)
        tenant, group, key_id, region, data_class, categories, task, tag = settled
        vocabulary = self.view.snapshot.policy.vocabulary
        language = vocabulary.languages if script is None else self._languages.get(script) or self._language(script)
        return RequestFacts(  # in their order: by name they take twice as long
            tenant, group, key_id, region, data_class, categories, asked, api, task, tag, language, needs.abilities,
            YES if stream else NO, needs.prompt_tokens,
        )  # fmt: skip

    def _settle(self, key: Key, said: Declared) -> Settled:
        access, vocabulary = self.view.snapshot.access, self.view.snapshot.policy.vocabulary
        tenant = access.tenants[key.tenant]
        facts = settled(vocabulary, tenant, key, said)
        who = frozenset((tenant.id,)), group_of(tenant.group), frozenset((key.id,))
        found = (*who, facts["region"], facts["data_class"], facts["categories"], facts["task"], facts["tag"])
        return self._settled.keep((key.id, said), found)

    def _language(self, script: Script) -> frozenset[str]:
        found = self._languages[script] = languages_of(script, self.view.snapshot.policy.vocabulary.languages)
        return found

    def asked(self, name: str, key: Key) -> frozenset[str]:
        """The fact `asked` for a name in a request. Raises Problem (404) if nothing goes by it."""
        found = self._asked.get(name)
        if found is None:
            resolved = resolve(self.view.snapshot.policy, name)
            if resolved is None:
                raise unknown_model(name, self.names(key))
            found = self._asked.keep(name, frozenset((resolved.asked,)))
        return found

    def names(self, key: Key) -> tuple[str, ...]:
        """Every name that this key, declaring nothing, can be served under, as far as rules go. Patterns are left out."""
        found = self._names.get(key.id)
        if found is None:
            policy = self.view.snapshot.policy
            names = [name for name in (*policy.models, *policy.aliases) if not name.endswith("*")]
            found = self._names.keep(key.id, tuple(name for name in names if self.serves(key, name)))
        return found

    def serves(self, key: Key, name: str) -> bool:
        """Whether rules let this key, declaring nothing, be served under `name`, which may match a pattern, by any API."""
        resolved = resolve(self.view.snapshot.policy, name)
        if resolved is None:
            return False
        asked = frozenset((resolved.asked,))
        return any(self._eligible(api, key, asked) for api in APIS.values())

    def _eligible(self, api: Api, key: Key, asked: frozenset[str]) -> bool:
        facts = self.facts(api.fact, key, (), asked, Needs(api.name), None, stream=False)
        mask = self.view.eligible(facts).mask
        return any(api.name in self.view.subjects[index].apis for index in bits(mask))

    def learn(self, script: Script | None, request: Request, reported_tokens: int) -> None:
        """An upstream counted the prompt. One with images, sound or files says nothing of text."""
        if script is not None and request.needs.abilities <= TEXT_ONLY:
            self._estimator.learn(script, request.needs.prompt_tokens, reported_tokens)


def owner(view: View, name: str) -> str:
    """Who `owned_by` names in a list of models: the model's providers, or `alias`."""
    policy = view.snapshot.policy
    if name not in policy.models:
        return "alias"
    return ", ".join(dict.fromkeys(d.endpoint.provider for d in policy.deployments if d.model.id == name))


def described(view: View, name: str) -> Mapping[str, object]:
    """One entry of `GET /v1/models`. `created` is required by the API's schema; a catalogue has no such day, so it is 0."""
    return {"id": name, "object": "model", "created": 0, "owned_by": owner(view, name)}


def unknown_model(asked: str, known: Sequence[str]) -> Problem:
    """404, with the nearest of the names that this key can be served."""
    shown = asked[:128]  # comparing takes time with the square of the length
    near = difflib.get_close_matches(shown, known, 3, 0.5)
    hint = "`GET /v1/models` lists what this key can use."
    if near:
        hint = f"Did you mean {' or '.join(f'`{name}`' for name in near)}?"
    return Problem(404, "model_not_found", f"The model `{shown}` does not exist here. {hint}", "model", should_retry=False)
