import { generateKeyPairSync } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { beforeAll, describe, expect, it } from 'vitest';

import { readTlsMaterial } from '../../../src/http/listener/tls-material.ts';
import { runProgram } from '../../helpers/programs.ts';
import { notePrivateKey } from '../../helpers/secrets.ts';
import { temporaryFolder } from '../../helpers/temporary-folder.ts';

let folder: string;

beforeAll(async () => {
  folder = await temporaryFolder();
  const ec = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 });
  for (const [name, { privateKey }] of [
    ['ec', ec],
    ['rsa', rsa],
    ['other-ec', generateKeyPairSync('ec', { namedCurve: 'P-256' })],
    ['other-rsa', generateKeyPairSync('rsa', { modulusLength: 2048 })],
  ] as const) {
    await writeFile(pathOf(`${name}.key`), privateKey.export({ type: 'pkcs8', format: 'pem' }));
    notePrivateKey(pathOf(`${name}.key`));
  }
  for (const name of ['ec', 'rsa'])
    await runProgram('openssl', [
      'req',
      '-x509',
      '-key',
      pathOf(`${name}.key`),
      '-subj',
      '/CN=localhost',
      '-out',
      pathOf(`${name}.pem`),
    ]);
});

function pathOf(name: string): string {
  return join(folder, name);
}

describe('certificate and key of a listener', () => {
  it.each(['ec', 'rsa'])('are accepted if they belong together (%s)', async (name) => {
    const files = { cert: pathOf(`${name}.pem`), key: pathOf(`${name}.key`), clientCa: undefined };
    const material = await readTlsMaterial('listen', files, readFile);
    expect(material?.key).toEqual(await readFile(pathOf(`${name}.key`)));
  });

  it.each([
    ['ec', 'other-ec'],
    ['rsa', 'other-rsa'],
    ['ec', 'rsa'],
    ['rsa', 'ec'],
  ])('are refused, with the names of both files, if not (%s, %s)', async (cert, key) => {
    const files = { cert: pathOf(`${cert}.pem`), key: pathOf(`${key}.key`), clientCa: undefined };
    await expect(readTlsMaterial('listen', files, readFile)).rejects.toMatchObject({
      code: 'CONFIG_INVALID',
      message: `listen.tls: ${files.key} is not the key of the certificate ${files.cert}`,
    });
  });
});
