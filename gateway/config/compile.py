"""A folder of YAML → one Snapshot, or every reason why not.

In order: read each file, check its shape, merge, collect the words, compile, look at the whole. Each stage goes on after a
mistake as far as it can without telling people of mere echoes: where a file can't be read, its words are not missed.
"""

import time
from dataclasses import dataclass, replace
from pathlib import Path

from gateway.config import cases as case_documents
from gateway.config import lint
from gateway.config.access import compile_groups, compile_tenants
from gateway.config.affinity import compile_affinity
from gateway.config.budgets import compile_tag_budgets
from gateway.config.caching import compile_caching
from gateway.config.canonical import content_hash
from gateway.config.cases import Case
from gateway.config.catalogue import Catalogue
from gateway.config.claims import compile_claims
from gateway.config.collect import collect
from gateway.config.documents import Node, read_file
from gateway.config.endpoints import Endpoints
from gateway.config.folder import CASES, FILES_MAX, FOLDER_BYTES_MAX
from gateway.config.known import Known
from gateway.config.limits import compile_at_most, compile_bounds
from gateway.config.preferences import compile_preferences
from gateway.config.problems import Mark, Problem, Problems, show
from gateway.config.reach import reaches
from gateway.config.rules import compile_rules
from gateway.config.sections import Sections, check, merge
from gateway.config.vocabulary import OURS, SINKS
from gateway.core.policy import Access, Keeper, Places, Policy, Snapshot


@dataclass(frozen=True, slots=True)
class Loaded:
    """What loading a folder came to. There is a snapshot if and only if there are no problems.

    `cases` and what is wrong with them stand apart: a slip in a test does not keep a policy from serving.
    """

    snapshot: Snapshot | None
    problems: tuple[Problem, ...] = ()
    warnings: tuple[Problem, ...] = ()
    cases: tuple[Case, ...] = ()
    case_problems: tuple[Problem, ...] = ()


def load(folder: str | Path, *, at: float | None = None) -> Loaded:
    """Compile every `*.yaml` of `folder`, and the cases in `folder/cases`. `at` (UTC seconds; now by default) dates the warnings.

    Never raises for what is in the files, or missing: it is all in `problems`.
    """
    root = Path(folder)
    problems, warnings, case_problems = Problems(), Problems(), Problems()
    documents = _read(root, problems)
    if documents is None:
        return Loaded(None, _in(root, problems), _in(root, warnings))
    documents = [check(document, problems) for document in documents]
    sections = merge(documents, problems)
    known = collect(sections, problems)
    snapshot = _compile(sections, known, time.time() if at is None else at, problems, warnings)
    cases = case_documents.load_cases(root / CASES, CASES, known, snapshot, case_problems)
    return Loaded(
        snapshot=None if problems.found else snapshot,
        problems=_in(root, problems),
        warnings=_in(root, warnings),
        cases=cases,
        case_problems=_in(root, case_problems),
    )


def _in(root: Path, problems: Problems) -> tuple[Problem, ...]:
    """The problems with paths that lead there from where the command was given."""
    return tuple(replace(problem, file=str(root / problem.file)) for problem in problems.in_order())


def _read(root: Path, problems: Problems) -> list[Node] | None:
    """The trees of all files; None if one of them can't be read, since every word that it defines would be missed elsewhere."""
    try:
        paths = sorted(path for path in root.iterdir() if not path.name.startswith("."))
    except OSError as error:
        problems.add(Mark("."), "a folder that can't be read", f"{error.strerror or error}".lower())
        return None
    files = [path for path in paths if path.suffix == ".yaml" and not path.is_dir()]
    for path in paths:
        if path.suffix == ".yml":
            problems.add(
                Mark(path.name), "a file that is not read", "policy files are called `*.yaml`; rename it, or move it elsewhere"
            )
        elif path.is_dir() and path.name != CASES:
            problems.add(
                Mark(path.name), "a folder that is not read", f"only `{CASES}` is looked into; move its files up, or elsewhere"
            )
    if not files:
        problems.add(Mark("."), "no `*.yaml` file", "a policy is one or more of them")
        return None
    if len(files) > FILES_MAX:
        problems.add(Mark("."), f"{len(files)} files", f"at most {FILES_MAX}")
        return None
    size = sum(_size(path) for path in files)
    if size > FOLDER_BYTES_MAX:
        problems.add(Mark("."), f"{size} bytes of policy", f"at most {FOLDER_BYTES_MAX}")
        return None
    trees = [read_file(path, path.name, problems) for path in files]
    found = [tree for tree in trees if tree is not None]
    if len(found) < len(trees):
        for tree in found:
            check(tree, problems)
        return None
    return found


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0  # reading it will tell


def _compile(sections: Sections, known: Known, at: float, problems: Problems, warnings: Problems) -> Snapshot:
    """Both documents. Worth nothing if there are problems, but made nevertheless, to find more of them."""
    maps = sections.maps
    catalogue = Catalogue(known, at, problems, warnings)
    gateway = _gateway(catalogue, sections, problems)
    stores = [catalogue.keeper(name, "store", mark, node) for name, (mark, node) in sorted(maps["stores"].items())]
    sinks = [catalogue.keeper(name, "sink", mark, node) for name, (mark, node) in sorted(maps["sinks"].items())]
    sinks += [replace(gateway, name=name, kind="sink") for name in SINKS if name not in maps["sinks"]]
    for name in maps["stores"]:
        if name in (*SINKS, gateway.name):
            problems.add(maps["stores"][name][0], show(name), "the name of a part of the gateway's own; choose another")
    models = catalogue.models(maps["models"])
    aliases = catalogue.aliases(maps["aliases"], models)
    deployments = Endpoints(known, at, problems, warnings).deployments(maps["endpoints"], models)
    rules = compile_rules(sections.lists["rules"], known, problems)
    policy = Policy(
        hash="",
        vocabulary=known.vocabulary,
        gateway=gateway,
        stores=tuple(stores),
        sinks=tuple(sinks),
        deployments=tuple(sorted(deployments, key=lambda deployment: deployment.id)),
        models=dict(sorted(models.items())),
        aliases=dict(sorted(aliases.items())),
        rules=tuple(rule for rule, _, _ in rules),
        preferences=compile_preferences(sections.lists["preferences"], known, problems),
        limits=compile_at_most(sections.once.get("at_most")),
        bounds=compile_bounds(sections.once.get("limits"), problems),
        claims=compile_claims(sections.lists["claims"], known, problems),
        affinity=compile_affinity(sections.once.get("affinity"), problems),
        tag_budgets=compile_tag_budgets(maps["tag_budgets"], known, problems),
        caching=compile_caching(sections.lists["cache"], known, deployments, problems, warnings),
    )
    groups = compile_groups(maps["groups"], known, problems)
    tenants, keys = compile_tenants(maps["tenants"], groups, known, at, problems, warnings)
    access = Access("", dict(sorted(tenants.items())), dict(sorted(keys.items())), dict(sorted(groups.items())))
    if not problems.found:
        reached = reaches(access, known.vocabulary, (*policy.models, *policy.aliases))
        lint.check_sinks(policy, {name: mark for name, (mark, _) in maps["sinks"].items()}, reached, at, problems, warnings)
        marks = {rule.id: mark for rule, mark, _ in rules}
        lint.warn_of_rules(policy, marks, frozenset(rule.id for rule, _, trusts in rules if trusts), reached, at, warnings)
        lint.warn_of_names(policy, {name: mark for name, (mark, _) in maps["aliases"].items()}, warnings)
    return Snapshot(replace(policy, hash=content_hash(policy)), replace(access, hash=content_hash(access)))


def _gateway(catalogue: Catalogue, sections: Sections, problems: Problems) -> Keeper:
    node = sections.once.get("gateway")
    if node is None:
        wanted = "say where this gateway itself runs: `gateway: {processed_in: [DE], operated_under: [DE]}`; it reads every prompt"
        problems.add(Mark("."), "no `gateway` section", wanted)
        nowhere = Places(None)
        return Keeper("gateway", "gateway", OURS, nowhere, nowhere, ())
    return catalogue.keeper("gateway", "gateway", node.mark, node)
