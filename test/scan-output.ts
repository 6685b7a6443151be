import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { OUTPUT_FOLDER_VARIABLE } from './helpers/collected-output.ts';
import { findSecrets, type KnownSecret } from './helpers/find-secrets.ts';

/**
 * Around the whole suite: what all proxies of it print is collected, and looked through for the secrets that
 * were used.
 */
export function setup(): () => void {
  const folder = mkdtempSync(join(tmpdir(), 'spandrel-output-'));
  process.env[OUTPUT_FOLDER_VARIABLE] = folder;
  return () => {
    try {
      scan(folder);
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  };
}

/** Secrets and output of one process belong together. @throws Error that names tests and secrets */
function scan(folder: string): void {
  const words: string[] = [];
  for (const file of readdirSync(folder).filter((name) => name.endsWith('.secrets'))) {
    const output = join(folder, file.replace(/secrets$/, 'output'));
    if (!existsSync(output)) continue;
    const lines = readFileSync(join(folder, file), 'utf8').trim().split('\n');
    const secrets = [...new Set(lines)].map((line) => JSON.parse(line) as KnownSecret);
    for (const { test, secret } of findSecrets(readFileSync(output, 'utf8'), secrets))
      words.push(`  ${test}: ${secret}`);
  }
  if (words.length === 0) return;
  process.exitCode = 1;
  throw new Error(`secrets are in what proxies under test have printed:\n${words.join('\n')}`);
}
