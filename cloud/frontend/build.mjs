// Bundles the islands into ../pages/static/dist (git-ignored, carried by the wheel).
//
// Names are fixed: the pages add the content hash as a query, so one template works with and without
// a bundle, and a wheel never carries two generations of the same file.
import { build } from "esbuild";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join, relative, sep } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const dist = join(here, "..", "pages", "static", "dist");

rmSync(dist, { recursive: true, force: true });
mkdirSync(dist, { recursive: true });

const result = await build({
  absWorkingDir: here,
  entryPoints: [
    { in: "src/map.ts", out: "map" },
    { in: "src/live.ts", out: "live" },
    { in: "src/board.ts", out: "board" },
    { in: "src/chart.ts", out: "chart" },
    { in: "src/ed25519.ts", out: "ed25519" },
    { in: "src/islands.css", out: "islands" },
  ],
  outdir: dist,
  bundle: true,
  format: "esm",
  minify: true,
  target: ["es2022"],
  legalComments: "none",
  metafile: true,
  logLevel: "warning",
});

writeFileSync(join(dist, "THIRD_PARTY_LICENSES.txt"), licences(Object.keys(result.metafile.inputs)));
for (const name of readdirSync(dist).sort()) {
  console.log(`${name.padEnd(28)} ${readFileSync(join(dist, name)).length} bytes`);
}

/** The licence text of every package that gave at least one line to a bundle. */
function licences(inputs) {
  const roots = new Set();
  for (const input of inputs) {
    const parts = input.split("/");
    const at = parts.lastIndexOf("node_modules");
    if (at < 0) continue;
    const depth = parts[at + 1].startsWith("@") ? 3 : 2;
    roots.add(join(here, ...parts.slice(0, at + depth)));
  }
  return [...roots].sort().map(licenceOf).join("\n\n");
}

function licenceOf(root) {
  const about = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
  const file = readdirSync(root).find((name) => /^licen[cs]e/i.test(name));
  if (file === undefined || !existsSync(join(root, file))) {
    throw new Error(`no licence text in ${relative(here, root).split(sep).join("/")}`);
  }
  const text = readFileSync(join(root, file), "utf8").trim();
  return `== ${about.name} ${about.version} (${about.license})\n\n${text}`;
}
