export const HEAD = 'GET /v2/ HTTP/1.1\r\nHost: x\r\n';
/** What a smuggled request would be answered with, were it taken for one. */
export const SMUGGLED = 'GET /v2/app/manifests/smuggled HTTP/1.1\r\nHost: x\r\n\r\n';

const digest = `sha256:${'0'.repeat(64)}`;

/** Requests that two readers could understand in two ways, and what each of them is. */
export const AMBIGUOUS_REQUESTS: readonly (readonly [what: string, bytes: string])[] = [
  [
    'Content-Length and Transfer-Encoding',
    `${HEAD}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n${SMUGGLED}`,
  ],
  [
    'two lengths that differ',
    `${HEAD}Content-Length: 0\r\nContent-Length: ${SMUGGLED.length}\r\n\r\n${SMUGGLED}`,
  ],
  ['the same length twice', `${HEAD}Content-Length: 0\r\nContent-Length: 0\r\n\r\n${SMUGGLED}`],
  ['a list of lengths', `${HEAD}Content-Length: 0, 5\r\n\r\n${SMUGGLED}`],
  ['a negative length', `${HEAD}Content-Length: -1\r\n\r\n${SMUGGLED}`],
  ['a length with a sign', `${HEAD}Content-Length: +0\r\n\r\n${SMUGGLED}`],
  ['an unknown transfer coding', `${HEAD}Transfer-Encoding: xchunked\r\n\r\n${SMUGGLED}`],
  ['chunked not last', `${HEAD}Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n${SMUGGLED}`],
  ['a chunk size that is no number', `${HEAD}Transfer-Encoding: chunked\r\n\r\nzz\r\n${SMUGGLED}`],
  ['a bare LF after a header', `GET /v2/ HTTP/1.1\r\nHost: x\nX: y\r\n\r\n${SMUGGLED}`],
  ['a bare LF after the request line', `GET /v2/ HTTP/1.1\nHost: x\r\n\r\n${SMUGGLED}`],
  ['a bare CR in a header', `${HEAD}X: a\rY: b\r\n\r\n${SMUGGLED}`],
  ['a folded header', `${HEAD}X: a\r\n folded\r\n\r\n${SMUGGLED}`],
  ['a space before the colon', `${HEAD}Content-Length : 5\r\n\r\n${SMUGGLED}`],
  ['a space before the first header', `GET /v2/ HTTP/1.1\r\n Host: x\r\n\r\n${SMUGGLED}`],
  ['NUL in a header', `${HEAD}X: a\0b\r\n\r\n${SMUGGLED}`],
  ['NUL in the path', `GET /v2/\0 HTTP/1.1\r\nHost: x\r\n\r\n${SMUGGLED}`],
  ['a space in the path', `GET /v2/ x HTTP/1.1\r\nHost: x\r\n\r\n${SMUGGLED}`],
  ['another protocol', `SSH-2.0-OpenSSH_9.2\r\n\r\n${SMUGGLED}`],
  ['HTTP/2 without TLS', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'],
  ['a version that there is not', `GET /v2/ HTTP/9.9\r\nHost: x\r\n\r\n${SMUGGLED}`],
];

/** Requests with more of something than the default `limits.maxHeaderBytes`. */
export const OVERSIZED_REQUESTS: readonly (readonly [what: string, bytes: string])[] = [
  ['a long path', `GET /v2/${'a'.repeat(40_000)} HTTP/1.1\r\nHost: x\r\n\r\n`],
  ['a long header', `${HEAD}X: ${'a'.repeat(40_000)}\r\n\r\n`],
  ['many headers', `${HEAD}${'X: a\r\n'.repeat(10_000)}\r\n`],
];

/** Paths that mean something else to some reader, or nothing. */
export const HOSTILE_PATHS: readonly string[] = [
  '/v2/app/../other/manifests/1.0',
  '/v2/../v2/app/manifests/1.0',
  '/v2/./app/manifests/1.0',
  '/v2/app/./manifests/1.0',
  '/v2/app/%2e%2e/other/manifests/1.0',
  '/v2/app/%2e%2e%2fother/manifests/1.0',
  '/v2/app/..%2fmanifests/1.0',
  '/v2//app/manifests/1.0',
  '//v2/app/manifests/1.0',
  '/v2/app//manifests/1.0',
  '/v2/app%00/manifests/1.0',
  '/v2/app/manifests/1.0%00',
  '/v2/app/manifests/..%2f..%2fblobs%2fx',
  '/v2/app/manifests/../blobs/x',
  '/v2/%c0%ae%c0%ae/manifests/1.0',
  '/v2/app%c0%af/manifests/1.0',
  '/v2/app%ff/manifests/1.0',
  '/v2/app\\..\\other/manifests/1.0',
  '/v2/app;x=1/manifests/1.0',
  '/v2/app%0d%0aX:%20y/manifests/1.0',
  '/v2/app/manifests/1.0%0d%0aX:%20y',
  '/v2/app/manifests/1.0%20',
  '/v2/APP/manifests/1.0',
  `/v2/app/blobs/${digest}/../x`,
  `/v2/app/blobs/${digest}%2f..`,
  `/v2/app/blobs/${digest}%00`,
  `/v2/app/_soci/layers/${digest}%2f../files/x`,
  '/V2/app/manifests/1.0',
  'http:///v2/app/manifests/1.0',
  'http://user@elsewhere.test/v2/app/manifests/1.0',
  'ftp://elsewhere.test/v2/app/manifests/1.0',
  'elsewhere.test:80',
  '*',
];
