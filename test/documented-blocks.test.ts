import { readdirSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';

import { parse as parseToml } from 'smol-toml';
import { describe, expect, it } from 'vitest';
import { parse as parseYaml } from 'yaml';

import { parseConfig } from '../src/config/parse-config.ts';
import { fencedBlocks } from './helpers/clients/shell-blocks.ts';

const DOCS = resolve(import.meta.dirname, '../docs');

const BLOCKS = readdirSync(DOCS, { recursive: true, encoding: 'utf8' })
  .filter((name) => name.endsWith('.md'))
  .flatMap((document) =>
    fencedBlocks(readFileSync(join(DOCS, document), 'utf8')).map((block) => ({ document, ...block })),
  );

function blocksOf(language: string): { document: string; body: string; first: string }[] {
  return BLOCKS.filter((block) => block.language === language).map(({ document, body }) => ({
    document,
    body,
    first: body.split('\n', 1)[0] ?? '',
  }));
}

interface Workflow {
  readonly on: object;
  readonly jobs: Readonly<Record<string, { readonly 'runs-on': unknown; readonly steps: readonly object[] }>>;
}

const isWorkflow = ({ body }: { readonly body: string }): boolean => /^jobs:$/m.test(body);

describe('the files in the documentation', () => {
  it.each(blocksOf('yaml').filter((block) => !isWorkflow(block)))(
    'are configurations that the proxy takes: $document, $first',
    ({ body }) => {
      expect(() => parseConfig({ yaml: body.startsWith('#') ? '' : body, environment: {} })).not.toThrow();
    },
  );

  it.each(blocksOf('yaml').filter(isWorkflow))('are workflows: $document, $first', ({ body }) => {
    const { on, jobs } = parseYaml(body) as Workflow;
    expect(Object.keys(on)).not.toEqual([]);
    const steps = Object.values(jobs).flatMap((job) => job.steps);
    expect(steps.length).toBeGreaterThan(0);
    for (const step of steps) expect(['run', 'uses'].filter((key) => key in step)).toHaveLength(1);
  });

  it.each(blocksOf('toml'))('are TOML: $document, $first', ({ body }) => {
    expect(Object.keys(parseToml(body))).not.toEqual([]);
  });

  it.each(blocksOf('json'))('are JSON: $document', ({ body }) => {
    expect(JSON.parse(body)).toEqual(expect.any(Object));
  });

  it('are of each kind', () => {
    expect(blocksOf('yaml').filter(isWorkflow)).toHaveLength(1);
    for (const language of ['yaml', 'toml', 'json']) expect(blocksOf(language)).not.toEqual([]);
  });
});
