export interface BasicCredentials {
  readonly username: string;
  readonly password: string;
}

/**
 * User and password of an `Authorization` header. `undefined` for another scheme, and for an empty user: some
 * clients send one if they have no credentials.
 */
export function parseBasicCredentials(authorization: string | undefined): BasicCredentials | undefined {
  const [, encoded] = /^basic +([A-Za-z0-9+/_-]+=*) *$/i.exec(authorization ?? '') ?? [];
  if (encoded === undefined) return undefined;
  const text = Buffer.from(encoded, 'base64').toString('utf8');
  const colon = text.indexOf(':');
  if (colon < 1) return undefined;
  return { username: text.slice(0, colon), password: text.slice(colon + 1) };
}
