// Writes what a release consists of (CycloneDX 1.5, made by npm from package-lock.json), and checks the
// licences in it. node scripts/sbom.mjs [FILE]        the production dependencies; standard output when no
// file is given
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** Licences that are compatible with Apache-2.0 and need no more than attribution. */
export const ALLOWED_LICENCES = [
  '0BSD',
  'Apache-2.0',
  'BSD-2-Clause',
  'BSD-3-Clause',
  'BlueOak-1.0.0',
  'ISC',
  'MIT',
  'Unlicense',
  'Zlib',
];

const ROOT = fileURLToPath(new URL('..', import.meta.url));

/** The bill of materials of the runtime: no development dependencies, no packaged Node. */
export function readSbom() {
  const scratch = mkdtempSync(join(tmpdir(), 'spandrel-sbom-'));
  try {
    // npm omits a package that a development dependency uses too, so it gets only the other ones.
    const manifest = readJson('package.json');
    const lock = readJson('package-lock.json');
    for (const object of [manifest, lock.packages['']]) {
      delete object.devDependencies;
      delete object.optionalDependencies;
    }
    const runs = Object.entries(lock.packages).filter(([, entry]) => !entry.dev && !entry.devOptional);
    lock.packages = Object.fromEntries(runs);
    writeFileSync(join(scratch, 'package.json'), JSON.stringify(manifest));
    writeFileSync(join(scratch, 'package-lock.json'), JSON.stringify(lock));
    const flags = ['--sbom-format=cyclonedx', '--package-lock-only', '--omit=optional'];
    const options = { encoding: 'utf8', maxBuffer: 64 * 2 ** 20, cwd: scratch };
    const { status, stdout, stderr } = spawnSync('npm', ['sbom', ...flags], options);
    if (status !== 0) throw new Error(`npm sbom failed:\n${stderr}`);
    return JSON.parse(stdout);
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

function readJson(name) {
  return JSON.parse(readFileSync(join(ROOT, name), 'utf8'));
}

/**
 * `name: licence` of components with a licence that is not allowed. Of an OR expression one licence must be
 * allowed, of an AND expression all.
 */
export function findBadLicences(components) {
  return components.flatMap(({ name, licenses = [] }) => {
    const stated = licenses.map(
      ({ license, expression }) => expression ?? license?.id ?? license?.name ?? '',
    );
    const text = stated.join(' AND ');
    return isAllowed(text) ? [] : [`${name}: ${text || 'none stated'}`];
  });
}

function isAllowed(expression) {
  const text = expression.replaceAll(/[()]/g, '');
  return text
    .split(' OR ')
    .some((choice) => choice.split(' AND ').every((name) => ALLOWED_LICENCES.includes(name)));
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const sbom = readSbom();
  const bad = findBadLicences(sbom.components);
  for (const line of bad) console.error(`sbom: licence not allowed: ${line}`);
  const text = `${JSON.stringify(sbom, undefined, 2)}\n`;
  if (process.argv[2] === undefined) process.stdout.write(text);
  else writeFileSync(process.argv[2], text);
  process.exitCode = bad.length === 0 ? 0 : 1;
}
