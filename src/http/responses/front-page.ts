import type { IncomingHttpHeaders } from 'node:http';

import { type RegistryResponse, jsonResponse } from './registry-response.ts';
import { preferredType } from '../requests/preferred-type.ts';

/** What `GET /` of a listener shows. It is public, so nothing in it depends on the configuration. */
export interface FrontPage {
  readonly title: string;
  /** Paths, and what is at each. */
  readonly places: readonly (readonly [path: string, what: string])[];
  /** Where to go next, a sentence each. */
  readonly next: readonly string[];
}

export const REGISTRY_PAGE: FrontPage = {
  title: 'Spandrel: a registry proxy that serves container images lazily',
  places: [
    ['/v2/', 'registry API (OCI distribution), read-only'],
    ['/v2/_catalog', 'repositories that have been served'],
    ['/v2/<name>/tags/list', 'tags of a repository'],
    ['/v2/<name>/_soci/images/<tag>', 'what is indexed of an image'],
    ['/v2/<name>/_soci/images/<tag>/files/', 'files of an image'],
    ['/v2/<name>/_soci/layers/<digest>', 'index, spans and files of a layer'],
  ],
  next: [
    'Pull images from this address: <name> is UPSTREAM/REPOSITORY.',
    'spandrel doctor <name>:<tag> says whether a node pulls an image lazily, and why not.',
    'docs/clients.md sets up clients, docs/reference/api.md has all routes.',
  ],
};

export const ADMIN_PAGE: FrontPage = {
  title: 'Spandrel: health, metrics and administration of the registry proxy',
  places: [
    ['/healthz', 'whether the process lives'],
    ['/readyz', 'whether it can take requests, and what is missing if not'],
    ['/metrics', 'metrics for Prometheus'],
    ['/api/v1/images', 'images that have been served'],
    ['/api/v1/blobs', 'blobs in the store'],
    ['/api/v1/jobs', 'images that are being warmed; POST /api/v1/warm begins one'],
    ['/api/openapi.json', 'this API as an OpenAPI document'],
  ],
  next: [
    'spandrel warm UPSTREAM/REPOSITORY:TAG indexes an image before its first pull.',
    'docs/operations.md has dashboard, alerts and a table of incidents.',
  ],
};

/** A front page as text, HTML or JSON, whichever the client prefers. */
export function frontPageResponse(page: FrontPage, { accept }: IncomingHttpHeaders): RegistryResponse {
  const headers = { vary: 'accept' };
  const contentType = preferredType(accept, ['text/plain', 'text/html', 'application/json']);
  if (contentType === 'application/json') {
    const links = page.places.map(([path, description]) => ({ path, description }));
    return jsonResponse({ name: 'Spandrel', description: page.title, links }, { headers });
  }
  const text = contentType === 'text/html' ? printHtml(page) : printText(page);
  const body = Buffer.from(text);
  return {
    status: 200,
    headers: {
      ...headers,
      'content-type': `${contentType}; charset=utf-8`,
      'content-length': body.byteLength,
    },
    body,
  };
}

function printText({ title, places, next }: FrontPage): string {
  const width = Math.max(...places.map(([path]) => path.length));
  const lines = places.map(([path, what]) => `  ${path.padEnd(width)}  ${what}`);
  return `${[title, '', ...lines, '', ...next].join('\n')}\n`;
}

function printHtml({ title, places, next }: FrontPage): string {
  const escape = (text: string): string => text.replaceAll('<', '&lt;');
  const rows = places.map(([path, what]) => {
    const shown = escape(path);
    const term = path.includes('<') ? shown : `<a href="${path}">${shown}</a>`;
    return `<dt>${term}</dt><dd>${escape(what)}</dd>`;
  });
  const more = next.map((sentence) => `<p>${escape(sentence)}</p>`).join('');
  return (
    '<!doctype html><html lang="en"><meta name="viewport" content="width=device-width">' +
    `<title>Spandrel</title><p>${escape(title)}</p><dl>${rows.join('')}</dl>${more}</html>\n`
  );
}
