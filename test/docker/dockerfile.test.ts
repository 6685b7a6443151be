import { readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';

import { validate } from 'dockerfile-utils';
import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';

const ROOT = resolve(import.meta.dirname, '../..');
const DOCKERFILE = readFileSync(join(ROOT, 'docker/Dockerfile'), 'utf8');

interface Compose {
  readonly services: Readonly<
    Record<
      string,
      {
        readonly read_only?: boolean;
        readonly cap_drop?: readonly string[];
        readonly ports?: readonly string[];
      }
    >
  >;
}

describe('the Dockerfile', () => {
  it('has no mistake that the linter knows', () => {
    expect(validate(DOCKERFILE)).toEqual([]);
    expect(validate('FROM scratch\nCOPPY a b\n')).not.toEqual([]);
  });

  it('copies only files that exist, and runs as a user that is not root', () => {
    const copied = [...DOCKERFILE.matchAll(/^COPY (?!--from)(.+) \S+$/gm)].flatMap((match) =>
      (match[1] ?? '').split(' '),
    );
    expect(copied).toContain('package-lock.json');
    for (const name of copied) expect(() => readFileSync(join(ROOT, name))).not.toThrow('ENOENT');
    const [last] = DOCKERFILE.split('FROM ').slice(-1);
    expect(last).toMatch(/^USER 10001:10001$/m);
    expect(last).toMatch(/^HEALTHCHECK /m);
  });
});

describe('the compose file', () => {
  it('gives the proxy a read-only root and no capability, and opens ports on loopback only', () => {
    const { services } = parse(readFileSync(join(ROOT, 'docker/compose.yaml'), 'utf8')) as Compose;
    expect(services['proxy']).toMatchObject({ read_only: true, cap_drop: ['ALL'], ulimits: { core: 0 } });
    for (const { ports = [] } of Object.values(services))
      for (const port of ports) expect(port).toMatch(/^127\.0\.0\.1:/);
  });
});
