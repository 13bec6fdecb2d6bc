"""A real InfluxDB 1.6.7 (Debian's `influxdb`) that also answers `/api/v2/write`, by Debian's nginx in front of it.

1.6.7 knows only `/write`. Three lines of nginx turn the address around, so that the client library of 2.x, which the
product uses, writes into the real storage engine.
"""

import os
from pathlib import Path

from processes import Child, free_port, is_listening
from services import find_program

_INFLUX = """
reporting-disabled = true
bind-address = "127.0.0.1:{rpc}"
[meta]
  dir = "{folder}/meta"
[data]
  dir = "{folder}/data"
  wal-dir = "{folder}/wal"
  query-log-enabled = false
  index-version = "inmem"
[http]
  bind-address = "127.0.0.1:{http}"
  log-enabled = false
[monitor]
  store-enabled = false
[logging]
  level = "warn"
"""
_NGINX = """
daemon off;
{user}
pid {folder}/nginx.pid;
error_log {folder}/nginx.log crit;
events {{ worker_connections 256; }}
http {{
  access_log off;
  client_max_body_size 64m;
  client_body_temp_path {folder}/t1; proxy_temp_path {folder}/t2; fastcgi_temp_path {folder}/t3;
  uwsgi_temp_path {folder}/t4; scgi_temp_path {folder}/t5;
  server {{
    listen 127.0.0.1:{port};
    location = /api/v2/write {{
      rewrite ^ /write?db=$arg_bucket&precision=$arg_precision? break;
      proxy_set_header Authorization "";
      proxy_pass http://127.0.0.1:{http};
    }}
    location / {{ proxy_set_header Authorization ""; proxy_pass http://127.0.0.1:{http}; }}
  }}
}}
"""


class Influx(Child):
    """An influxd with its own folder, and the nginx in front of it; `port` is nginx's and stays over restarts.

    `kill` and `start` are those of influxd: nginx goes on and answers 502 meanwhile, as a proxy does.
    """

    def __init__(self, folder: Path) -> None:
        self.port, self._http = free_port(), free_port()
        config = folder / "influx.conf"
        config.write_text(_INFLUX.format(folder=folder, http=self._http, rpc=free_port()))
        user = "user root;" if os.geteuid() == 0 else ""
        front = folder / "nginx.conf"
        front.write_text(_NGINX.format(folder=folder, port=self.port, http=self._http, user=user))
        nginx = [find_program("nginx"), "-c", front, "-p", folder]
        self._front = Child(nginx, log=folder / "nginx.out")
        super().__init__([find_program("influxd"), "-config", config], log=folder / "influxd.log")

    @property
    def url(self) -> str:
        """The readings URL without its database."""
        return f"influx+http://127.0.0.1:{self.port}"

    def start(self) -> "Influx":
        """Start both where they do not run, and wait until they answer."""
        if not is_listening(self.port):
            self._front.start().wait_for_port(self.port)
        super().start()
        return self.wait_for_port(self._http, within_s=60)

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        self._front.__exit__(*error)
