"""`run --smoke`: look at the running system as a stranger would, over HTTP only, and say in one line what was seen."""

import json
import re
import threading
import time
from dataclasses import asdict, dataclass, field
from typing import Any

import httpx

from cloud.supervisor import Run
from traceability import TraceError
from traceability.packs import Pack
from traceability.policy import Policy

__all__ = ["Seen", "smoke"]

_PACK = re.compile(r'<script type="application/tianmai-pack\+json" id="pack">(.*?)</script>', re.DOTALL)


@dataclass
class Seen:
    """Counts of what is visible, and what is still missing."""

    first_data_s: float | None = None
    gateways: int = 0
    readings: int = 0
    parcels: int = 0
    closed_cases: int = 0
    refusals: int = 0
    verified_codes: int = 0
    addresses: dict[str, str] = field(default_factory=dict)

    def missing(self) -> list[str]:
        """What a whole run must show and does not yet."""
        wanted = {
            "four gateways with readings": self.gateways >= 4 and self.readings > 0,  # noqa: PLR2004 - the four farms
            "parcels": self.parcels > 0,
            "a closed case": self.closed_cases > 0,
            "a refusal": self.refusals > 0,
            "four verified codes": self.verified_codes >= 4,  # noqa: PLR2004 - one of each chain
        }
        return [name for name, there in wanted.items() if not there]


def smoke(run: Run, stop: threading.Event, *, timeout_s: float) -> int:
    """Wait until everything is visible; prints one JSON line. 0 when all is there, 1 with the reason otherwise."""
    seen = Seen(addresses={"console": f"{run.site}/console", "sign_in": run.sign_in})
    why = "nothing was looked at"
    with httpx.Client(base_url=run.site, follow_redirects=True, timeout=30.0, trust_env=False) as browser:
        browser.get(run.sign_in).raise_for_status()
        while time.monotonic() - run.began < timeout_s and not stop.is_set():
            try:
                _look(browser, run, seen)
                why = ", ".join(seen.missing())
            except (httpx.HTTPError, KeyError, ValueError, TraceError) as error:
                why = f"{type(error).__name__}: {error}"
            if not why or run.trouble:
                break
            time.sleep(1.0)
    why = run.trouble or why
    line: dict[str, Any] = {"smoke": "failed" if why else "passed", "seconds": round(time.monotonic() - run.began, 1)}
    line |= asdict(seen) | ({"why": why} if why else {})
    print(json.dumps(line, ensure_ascii=False), flush=True)  # noqa: T201 - the one line that was asked for
    return 1 if why else 0


def _look(browser: httpx.Client, run: Run, seen: Seen) -> None:
    latest = _json(browser, "/api/v1/latest")["items"]
    seen.readings = len(latest)
    if latest and seen.first_data_s is None:
        seen.first_data_s = round(time.monotonic() - run.began, 1)
    seen.gateways = len({row["gateway"] for row in latest})
    seen.refusals = len(_json(browser, "/api/v1/trace/refusals")["items"])
    seen.parcels = len(_json(browser, "/api/v1/land/parcels")["features"])
    seen.closed_cases = len(_json(browser, "/api/v1/land/cases?state=closed")["items"])
    if seen.verified_codes < len(run.chains.get("subjects", {})):
        seen.verified_codes = _verified(browser, run, seen)


def _verified(browser: httpx.Client, run: Run, seen: Seen) -> int:
    # The keys come from the operator's own file on this machine, never from what is being checked.
    policy = Policy.load(run.services.settings.policy_file)
    seen_chains: set[str] = set()
    for lot in _json(browser, "/api/v1/trace/lots")["items"]:
        if lot["chain"] in seen_chains:
            continue
        seen_chains.add(lot["chain"])
        page = browser.get(lot["path"]).raise_for_status().text
        found = _PACK.search(page)
        if found is None:
            raise ValueError(f"the page of {lot['chain']} at {lot['path']} carries no proof pack")
        Pack.parse(found.group(1).encode()).verify(policy, now_ms=time.time_ns() // 1_000_000)
        seen.addresses[lot["chain"]] = f"{run.site}{lot['path']}"
    return len(seen_chains)


def _json(browser: httpx.Client, path: str) -> Any:
    answer = browser.get(path)
    answer.raise_for_status()
    return answer.json()
