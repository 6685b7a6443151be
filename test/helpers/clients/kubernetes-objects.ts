import { readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join, resolve } from 'node:path';

import { expect } from 'vitest';
import { parse, parseAllDocuments } from 'yaml';

import { tryProgram } from '../programs.ts';
import { temporaryFolder } from '../temporary-folder.ts';

const ROOT = resolve(import.meta.dirname, '../../..');
const require = createRequire(import.meta.url);

export interface KubernetesObject {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: { readonly name: string; readonly annotations?: Readonly<Record<string, string>> };
}

/** @throws Error for a field that the API of Kubernetes does not know, or with a wrong value */
export async function expectValidObjects(objects: readonly KubernetesObject[]): Promise<void> {
  const problems = await compile(typedModule(objects));
  if (problems !== '') throw new Error(problems);
  for (const { apiVersion, kind, ...rest } of objects) {
    const models = require(`kubernetes-models/${apiVersion}`) as Record<
      string,
      new (data: object) => { validate(): void }
    >;
    const Model = models[kind];
    if (Model === undefined) throw new Error(`${kind} is unknown`);
    new Model({ apiVersion, kind, ...rest }).validate();
  }
}

/**
 * A module that holds the objects as literals of their types: the compiler finds fields that do not exist.
 */
function typedModule(listed: readonly KubernetesObject[]): string {
  return listed
    .map(
      ({ apiVersion, kind, ...rest }, place) =>
        `import type { I${kind} as T${place} } from 'kubernetes-models/${apiVersion}';\n` +
        `export const o${place}: T${place} = ${JSON.stringify({ apiVersion, kind, ...rest })};\n`,
    )
    .join('');
}

async function compile(text: string): Promise<string> {
  const scratch = await temporaryFolder();
  symlinkSync(join(ROOT, 'node_modules'), join(scratch, 'node_modules'));
  writeFileSync(join(scratch, 'objects.ts'), text);
  const flags = [
    '--noEmit',
    '--strict',
    '--skipLibCheck',
    '--module',
    'esnext',
    '--moduleResolution',
    'bundler',
  ];
  const { stdout } = await tryProgram('tsc', [...flags, 'objects.ts'], { cwd: scratch });
  return stdout.toString();
}

interface Kustomization {
  readonly resources: readonly string[];
  readonly patches?: readonly { readonly path: string; readonly target?: { kind: string; name: string } }[];
}

interface Operation {
  readonly op: 'add' | 'replace' | 'remove';
  readonly path: string;
  readonly value?: unknown;
}

/** The objects of a folder with a kustomization, patched; names, labels and images are left as they are. */
export function kustomize(folder: string): KubernetesObject[] {
  const { resources, patches = [] } = parse(read(join(folder, 'kustomization.yaml'))) as Kustomization;
  let objects = resources.flatMap((path) =>
    path.endsWith('.yaml') ? readObjects(join(folder, path)) : kustomize(join(folder, path)),
  );
  for (const { path, target } of patches) {
    const text = read(join(folder, path));
    const merged = parse(text) as KubernetesObject | readonly Operation[];
    const { kind, name } = target ?? { kind: one(merged).kind, name: one(merged).metadata.name };
    const isTarget = (object: KubernetesObject): boolean =>
      object.kind === kind && new RegExp(`^(?:${name})$`).test(object.metadata.name);
    expect([path, objects.filter(isTarget).length]).toEqual([path, 1]);
    objects = objects.map((object) => {
      if (!isTarget(object)) return object;
      return (Array.isArray(merged) ? operate(object, merged) : merge(object, merged)) as KubernetesObject;
    });
  }
  return objects;
}

function one(merged: KubernetesObject | readonly Operation[]): KubernetesObject {
  if (Array.isArray(merged)) throw new Error('a JSON patch needs a target');
  return merged as KubernetesObject;
}

function read(path: string): string {
  return readFileSync(path, 'utf8');
}

export function readObjects(path: string): KubernetesObject[] {
  return parseAllDocuments(read(path)).map((document) => document.toJS() as KubernetesObject);
}

/** RFC 6902: what these files use of it. */
function operate(object: KubernetesObject, operations: readonly Operation[]): unknown {
  const patched = structuredClone(object) as unknown as Record<string, unknown>;
  for (const { op, path, value } of operations) {
    const parts = path.slice(1).split('/');
    const last = parts.pop() ?? '';
    let at = patched;
    for (const part of parts) at = at[part] as Record<string, unknown>;
    if (op !== 'add' && at[last] === undefined) throw new Error(`${path} is not there`);
    if (op === 'remove') delete at[last];
    else if (Array.isArray(at) && last === '-') at.push(value);
    else at[last] = value;
  }
  return patched;
}

/** A strategic merge: lists of things with names are merged by name, or by the path of a mount. */
function merge(base: unknown, patch: unknown): unknown {
  if (Array.isArray(base) && Array.isArray(patch)) {
    const result = [...(base as unknown[])];
    for (const item of patch as unknown[]) {
      const at = result.findIndex((other) => keyOf(other) === keyOf(item));
      if (at < 0) result.push(item);
      else result[at] = merge(result[at], item);
    }
    return result;
  }
  if (!isMap(base) || !isMap(patch)) return patch;
  const merged: Record<string, unknown> = { ...base };
  for (const [name, value] of Object.entries(patch)) merged[name] = merge(base[name], value);
  return merged;
}

function isMap(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function keyOf(item: unknown): unknown {
  return isMap(item) ? (item['mountPath'] ?? item['name']) : item;
}
