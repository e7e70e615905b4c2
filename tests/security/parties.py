"""Parties of the matrix of authorisation: who asks, from where in the tree, and which cells of the table are theirs."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import timedelta

from gateway.namespaces.node import NodeKey
from gateway.namespaces.project import Project
from gateway.namespaces.role import Role
from gateway.namespaces.user import User

from .authorisation import Party, ProxyParty, read_table
from .tree import EVERY_JOB, PASSWORD, Login, NineProjects, Planter

SCOPE_SETS = [{"api"}, {"read_api"}, {"read_registry"}, {"write_registry"}, {"read_registry", "write_registry"}]
DEPLOY_SETS = {
    "read": [{"read_registry"}],
    "write": [{"write_registry"}, {"read_registry", "write_registry"}],
}
OLD_PLACE = "acme/before"
"""Where the nine projects of the group were made, before it moved."""


@dataclass(frozen=True)
class Groves:
    """All parties: at the nine projects of a group, at those of a user, and at the dependency proxies."""

    group: NineProjects
    parties: list[Party]
    namespace: NineProjects
    parties_of_namespace: list[Party]
    proxy_parties: list[ProxyParty]


async def plant_all(planter: Planter) -> Groves:
    people = await _people(planter)
    works = await planter.group("works")
    crew = await planter.group("works/crew")
    named, unnamed = await planter.project(EVERY_JOB[0]), await planter.project("works/unnamed")
    hand = await planter.project("works/crew/hand")
    top, team = await planter.group("acme", "public"), await planter.group(OLD_PLACE, "public")
    beside = await planter.group("acme/beside")
    nine = await planter.nine_projects(OLD_PLACE, [named.key, crew.key])
    nine = await planter.moved(nine, "acme/team")
    await _join(planter, people, nine)
    parties = [*_people_parties(people), *await _inherited(planter, nine, team.key, top.key)]
    parties += await _personal_parties(planter, people)
    elsewhere = [works.key, named.key, beside.key]
    parties += await _deploy_parties(planter, nine, [team.key, top.key], elsewhere)
    parties += await _foreign_jobs(planter, people, [named, hand], unnamed)
    parties += await _own_jobs(planter, people, nine)
    parties += await _deploy_tokens_of_jobs(planter, people, team.key, nine)
    ursula = await planter.user("ursula")
    namespace = await planter.nine_projects("ursula")
    there = ["anonymous", "stranger", "outsider", "admin", "blocked"]
    of_namespace = [party for party in _people_parties(people) if party.column in there]
    of_namespace += [replace(party, column="stranger") for party in _people_parties(people) if party.column == "owner"]
    of_namespace.append(Party("ursula", ursula.name, PASSWORD, column="owner", thorough=True))
    return Groves(nine, parties, namespace, of_namespace, await _proxy_parties(planter, people))


_ROLES = {"outside-guest": Role.GUEST} | {role.word: role for role in Role}


async def _people(planter: Planter) -> dict[str, User]:
    """A user for each column of the table but `anonymous`; `admin` is a path that no user may have."""
    people = {}
    for column in read_table().columns("people")[1:]:
        external = column.startswith("outside") or column == "outsider"
        name = {"admin": "adele"}.get(column, column)
        people[column] = await planter.user(
            name, admin=column == "admin", external=external, blocked=column == "blocked"
        )
    return people


async def _join(planter: Planter, people: dict[str, User], nine: NineProjects) -> None:
    for project in nine.projects.values():
        for column, role in _ROLES.items():
            await planter.member(project.key, people[column], role)
        await planter.member(project.key, people["blocked"], Role.OWNER)


def _people_parties(people: dict[str, User]) -> list[Party]:
    parties = [Party(column, user.name, PASSWORD, column=column, thorough=True) for column, user in people.items()]
    return [Party("anonymous", column="anonymous", thorough=True), *parties]


async def _inherited(planter: Planter, nine: NineProjects, team: NodeKey, top: NodeKey) -> list[Party]:
    """Members of the group and of the one above it, with a stronger role below, and with memberships that expired."""
    parties = []
    for place, node in (("team", team), ("top", top)):
        for role in Role:
            user = await planter.user(f"{place}-{role.word}")
            await planter.member(node, user, role)
            parties.append(Party(user.name, user.name, PASSWORD, column=role.word))
    raised = await planter.user("raised")
    await planter.member(team, raised, Role.REPORTER)
    lapsed = await planter.user("lapsed")
    await planter.member(team, lapsed, Role.OWNER, planter.now)
    lowered = await planter.user("lowered")
    await planter.member(team, lowered, Role.DEVELOPER, planter.now + timedelta(hours=1))
    for project in nine.projects.values():
        await planter.member(project.key, raised, Role.MAINTAINER)
        await planter.member(project.key, lowered, Role.MAINTAINER, planter.now)
    parties.append(Party("raised", raised.name, PASSWORD, column="maintainer"))
    parties.append(Party("lowered", lowered.name, PASSWORD, column="developer"))
    return [*parties, Party("lapsed", lapsed.name, PASSWORD, column="stranger")]


async def _personal_parties(planter: Planter, people: dict[str, User]) -> list[Party]:
    parties = []
    for column, user in people.items():
        for scopes in SCOPE_SETS:
            token = await planter.personal(user, scopes)
            label = f"personal token of {column} with {' and '.join(sorted(scopes))}"
            parties.append(
                _personal(label, token, column, scopes, thorough=column == "maintainer" and len(scopes) == 1)
            )
    for label, ended in (("revoked", {"revoked": True}), ("expired", {"expired": True})):
        token = await planter.personal(people["owner"], ["api"], **ended)
        parties.append(_personal(f"{label} personal token", token, "blocked", ["api"], thorough=True))
    return parties


def _personal(label: str, token: Login, column: str, scopes: Iterable[str], thorough: bool) -> Party:
    return Party(label, token.username, token.secret, column=column, scopes=frozenset(scopes), thorough=thorough)


def _deploy(label: str, token: Login, column: str, *, thorough: bool = False, **own: str) -> Party:
    rows = {row.replace("_", "/"): word for row, word in own.items()}
    return Party(label, token.username, token.secret, "deploy", column, rows, thorough=thorough)


async def _deploy_parties(
    planter: Planter, nine: NineProjects, above: list[NodeKey], elsewhere: list[NodeKey]
) -> list[Party]:
    parties = []
    for column, sets in DEPLOY_SETS.items():
        for scopes in sets:
            words = " and ".join(sorted(scopes))
            for number, node in enumerate(above):
                token = await planter.deploy(node, scopes)
                parties.append(_deploy(f"deploy token of {node} with {words}", token, column, thorough=number == 0))
            for number, node in enumerate(elsewhere):
                token = await planter.deploy(node, scopes)
                label = f"deploy token of {node}, elsewhere, with {words}"
                parties.append(_deploy(label, token, "elsewhere", thorough=number == 0 and column == "read"))
            for row, project in nine.projects.items():
                token = await planter.deploy(project.key, scopes)
                label = f"deploy token of {row} with {words}"
                parties.append(_deploy(label, token, "elsewhere", **{row.replace("/", "_"): column}))
    for label, ended in (("revoked", {"revoked": True}), ("expired", {"expired": True})):
        token = await planter.deploy(above[0], ["write_registry"], **ended)
        parties.append(_deploy(f"{label} deploy token", token, "ended", thorough=True))
    misnamed = replace(await planter.deploy(above[0], ["write_registry"]), username="another")
    return [*parties, _deploy("deploy token under another user name", misnamed, "ended")]


def _job(label: str, token: Login, column: str, *, thorough: bool = False, own: dict[str, str] | None = None) -> Party:
    return Party(label, token.username, token.secret, "job", column, own or {}, thorough=thorough)


async def _foreign_jobs(
    planter: Planter, people: dict[str, User], listed: list[Project], unlisted: Project
) -> list[Party]:
    """Jobs of projects that are none of the nine."""
    parties = []
    columns = {"developer": "listed", "reporter": "listed", "owner": "listed", "admin": "listed"}
    columns |= {"guest": "listed-guest", "stranger": "listed-stranger"}
    for number, project in enumerate(listed):
        for user, column in columns.items():
            token, _ = await planter.job(project, people[user])
            thorough = number == 0 and user not in ("reporter", "owner", "admin")
            parties.append(_job(f"job of {project.path} by {user}", token, column, thorough=thorough))
    for user in ("developer", "stranger", "owner", "admin", "outsider"):
        token, _ = await planter.job(unlisted, people[user])
        column = "unlisted-outsider" if user == "outsider" else "unlisted"
        label = f"job of {EVERY_JOB[0]}'s neighbour by {user}"
        parties.append(_job(label, token, column, thorough=user in ("developer", "outsider")))
    return parties


async def _own_jobs(planter: Planter, people: dict[str, User], nine: NineProjects) -> list[Party]:
    parties = []
    for row, project in nine.projects.items():
        for user, column in (("developer", "own"), ("maintainer", "own"), ("reporter", "own-reporter")):
            token, _ = await planter.job(project, people[user])
            thorough = row == "private/enabled" and user != "maintainer"
            parties.append(_job(f"job of {row} by {user}", token, "unlisted", own={row: column}, thorough=thorough))
    project, thorough = nine.projects["public/enabled"], True
    for label, user, ended in (
        ("finished job", "owner", {"finished": True}),
        ("expired job", "owner", {"expired": True}),
        ("job of a blocked user", "blocked", {}),
    ):
        token, _ = await planter.job(project, people[user], **ended)
        parties.append(_job(label, token, "ended", thorough=thorough))
    return parties


async def _deploy_tokens_of_jobs(
    planter: Planter, people: dict[str, User], team: NodeKey, nine: NineProjects
) -> list[Party]:
    """Second secrets of jobs, each of which stands for a deploy token and is worth what that is."""
    parties, project = [], nine.projects["private/private"]
    for column, scopes in (("read", ["read_registry"]), ("write", ["write_registry"])):
        token = await planter.deploy(team, scopes)
        _, second = await planter.job(project, people["developer"], stands_for=token.id)
        _, ended = await planter.job(project, people["developer"], stands_for=token.id, finished=True)
        assert second is not None and ended is not None
        named, late = replace(second, username=token.username), replace(ended, username=token.username)
        parties.append(_deploy(f"deploy token of a job with {scopes[0]}", named, column))
        parties.append(_deploy(f"deploy token of a finished job with {scopes[0]}", late, "ended"))
    return parties


# Dependency proxies


async def _proxy_parties(planter: Planter, people: dict[str, User]) -> list[ProxyParty]:
    depot = await planter.group("depot", "public")
    beside = await planter.group("depot/beside")
    apart = await planter.project("depot/beside/app")
    above = await planter.user("guest-above")
    await planter.member(depot.key, above, Role.GUEST)
    sibling = await planter.user("guest-beside")
    await planter.member(beside.key, sibling, Role.OWNER)
    deploys = {"deploy-above": await planter.deploy(depot.key, ["read_registry"])}
    deploys["deploy-beside"] = await planter.deploy(beside.key, ["read_registry", "write_registry"])
    job_beside, _ = await planter.job(apart, sibling)
    own = {name: await planter.user(f"depot-{name}") for name in ("below", "inside", "lapsed")}
    parties: list[ProxyParty] = []
    for column in read_table().columns("proxy"):
        group = await planter.group(f"depot/{column}", "public" if column == "open" else column, open=column == "open")
        child, inside = await planter.group(f"{group.path}/child"), await planter.project(f"{group.path}/inside")
        deeper = await planter.project(f"{group.path}/child/deeper")
        for name, role in _ROLES.items():
            await planter.member(group.key, people[name], role)
        await planter.member(group.key, people["blocked"], Role.OWNER)
        await planter.member(child.key, own["below"], Role.OWNER)
        await planter.member(inside.key, own["inside"], Role.OWNER)
        await planter.member(group.key, own["lapsed"], Role.OWNER, planter.now)
        users = {"guest-above": above, "guest-beside": sibling} | {f"guest-{name}": user for name, user in own.items()}
        passwords = {name: Login(user.id, user.name, PASSWORD) for name, user in (people | users).items()}
        tokens = {scope: await planter.personal(people["guest"], [scope]) for scope in read_table().scopes}
        tokens["personal-revoked"] = await planter.personal(people["owner"], ["api"], revoked=True)
        tokens["personal-expired"] = await planter.personal(people["owner"], ["api"], expired=True)
        tokens["deploy-read"] = await planter.deploy(group.key, ["read_registry"])
        tokens["deploy-write"] = await planter.deploy(group.key, ["write_registry"])
        tokens["deploy-inside"] = await planter.deploy(inside.key, ["read_registry"])
        tokens["deploy-deeper"] = await planter.deploy(deeper.key, ["read_registry"])
        tokens["deploy-below"] = await planter.deploy(child.key, ["read_registry"])
        tokens["deploy-revoked"] = await planter.deploy(group.key, ["read_registry"], revoked=True)
        jobs = {
            "job-inside": await planter.job(inside, people["developer"]),
            "job-deeper": await planter.job(deeper, people["developer"]),
            "job-by-stranger": await planter.job(inside, people["stranger"]),
            "job-finished": await planter.job(inside, people["owner"], finished=True),
        }
        logins = passwords | tokens | deploys | {name: job for name, (job, _) in jobs.items()}
        logins["job-beside"] = job_beside
        parties.append(ProxyParty("anonymous", column))
        parties += [ProxyParty(row, column, login.username, login.secret) for row, login in logins.items()]
    return parties
