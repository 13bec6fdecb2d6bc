"""What `run` puts on an empty machine so that there is something true to see: four farms, a county, four lots.

All of it goes through the same doors as real work, and all of it is marked as a demonstration: the farms are simulated,
the county is synthetic, the persons are called so. Everything here may run again on every start and adds nothing twice.
"""

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cloud.land import Batch, Land
from cloud.land.demonstration import play
from cloud.problems import Refused
from cloud.who import Role
from cloud.wiring import Office, Services
from traceability.demo import demo_chains
from traceability.digital_link import parse_link

__all__ = ["FARMS", "Farm", "detect_county", "play_chains", "play_land_loop", "prepare_gateways", "prepare_person"]

CITY = "500000"
PERSON = "demo-admin"
LAND_KEY = "land.detect/synthetic-county"
CHAIN_KEY = "chains/demonstration"
# Identifiers live in GS1's canonical form whatever address this machine answers on today.
IDENTIFIERS = "https://id.gs1.org"


@dataclass(frozen=True, slots=True)
class Farm:
    """One demonstration farm: its gateway, farm type and town."""

    gateway: str
    farm: str
    region: str
    name: str
    site: str = ""  # the place that chain events name; joins a pond's thermometer to its fish


FARMS = (
    Farm("rongchang-pig", "pig_barn", "500153", "荣昌示范猪舍"),
    Farm("hechuan-layer", "layer_house", "500117", "合川示范鸡舍"),
    Farm("yunyang-citrus", "citrus_orchard", "500235", "云阳示范柑橘园"),
    Farm("nanan-pond", "fish_pond", "500108", "南岸示范鱼塘", "urn:tianmai:place:nanan-pond-1"),
)


def prepare_person(services: Office) -> str:
    """The person whom the one-time link signs in; returns the person's id."""
    person = services.accounts.person("演示管理员", id=PERSON)
    services.accounts.grant(person, Role.ADMIN, CITY, by="tianmai run")
    return person


def prepare_gateways(services: Services) -> list[Path]:
    """Register the four gateways and write their settings files; returns the files."""
    directory = services.settings.var / "gateways"
    directory.mkdir(parents=True, exist_ok=True)
    return [_prepare_gateway(services, directory, farm, seed) for seed, farm in enumerate(FARMS, 1)]


def _prepare_gateway(services: Services, directory: Path, farm: Farm, seed: int) -> Path:
    gateway = services.registry.add_gateway(
        farm.gateway,
        farm=farm.farm,
        region=farm.region,
        name=farm.name,
        site=farm.site,
        secret=secrets.token_hex(32).encode(),
    )
    secret = directory / f"{farm.gateway}.secret"
    secret.touch(mode=0o600)
    secret.write_bytes(gateway.secret + b"\n")
    settings = services.settings
    file = directory / f"{farm.gateway}.toml"
    file.write_text(
        f"""# Written anew by every `tianmai-cloud run`.
[gateway]
id = "{farm.gateway}"
farm = "{farm.farm}"
secret_file = "{secret.name}"
timezone = "{settings.timezone}"

[uplink]
url = "mqtt://{settings.mqtt_host}:{settings.mqtt_port}"

[spool]
dir = "{farm.gateway}.spool"
cap_mb = 64

[[driver]]
kind = "simulator"
seed = {seed}
speed = 6.0
""",
        "utf-8",
    )
    return file


def detect_county(land: Land, body: Mapping[str, Any]) -> dict[str, Any]:
    """Worker's hand for `LAND_JOB`: make the synthetic county, judge it, hand the findings to the land context."""
    from remote_sensing import PROFILES, detect, synthetic  # noqa: PLC0415 - only the worker loads the science

    scene = synthetic.county(
        seed=int(body["seed"]), size=int(body["size"]), years=int(body["years"]), parcels=int(body["parcels"])
    )
    found = detect(scene.cube, scene.parcels, PROFILES[str(body["profile"])])
    imported = land.import_detections(Batch.from_geojson(found.to_geojson(), region=str(body["region"])))
    return {"parcels": len(found), "imported": str(imported)}


COUNTY = {
    "seed": 7,
    "size": 256,
    "years": 8,
    "parcels": 1000,
    "profile": "cn_admin",
    "region": "500235",
}


def play_land_loop(office: Office) -> str:
    """The loop once, by demonstration persons; returns the case's id."""
    return play(office.land, office.accounts, office.regions, region=str(COUNTY["region"])).case_id


def _write_labels(services: Services) -> None:
    """The four lots' labels as files, ready to be printed or scanned from the screen."""
    folder = services.settings.var / "labels"
    folder.mkdir(parents=True, exist_ok=True)
    for lot in services.provenance.lots():
        for kind in ("svg", "png"):
            drawn = services.provenance.label(lot.path, kind=kind, width_mm=30.0)
            (folder / f"{lot.chain}.{kind}").write_bytes(drawn)


def play_chains(services: Services) -> dict[str, Any]:
    """Capture one lot of each chain and try the pond lot whose withdrawal period is open.

    The first run's result is kept in the job table: a later start finds the same lots and makes no new ones.
    """
    job = services.jobs.ask("chains", CHAIN_KEY)
    if job.state == "done":
        return dict(job.result)
    subjects, refused = {}, 0
    for chain in demo_chains(services.clock(), domain=IDENTIFIERS):
        for event in chain.events:
            services.provenance.capture(event, chain=chain.chain, by="演示 demonstration", facts=chain.facts)
        subjects[chain.chain] = chain.subject
        gtin = parse_link(chain.subject).gtin
        if gtin is not None:
            services.provenance.name_product(gtin, chain.product_zh, chain.product_en)
        for event in chain.refused:
            try:
                services.provenance.capture(event, chain=chain.chain, by="演示 demonstration", facts=chain.facts)
            except Refused:
                refused += 1
    _write_labels(services)
    result = {"subjects": subjects, "refused": refused}
    services.jobs.done(job, json.loads(json.dumps(result)))
    return result
