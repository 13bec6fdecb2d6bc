"""The service that composes gateways, land and chains for officials and consumers.

`cloud.wiring.build(settings)` makes every service once; `cloud.app.create_app(services)` puts doors on them.
Each context below (accounts, regions, telemetry, alarms, land, provenance, catalogue) stands alone: what needs two
of them is composed in `wiring` or `pages` by passing a small callable.
"""
