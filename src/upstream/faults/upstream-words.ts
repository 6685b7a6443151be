import { isJsonObject, parseJson } from '../../core/json/parse-json.ts';
import type { TransportResponse } from '../transport/transport.ts';

/** Contents of an error body; either may be missing. */
export interface UpstreamWords {
  /** Code of an OCI error: distribution spec, "Error Codes". */
  readonly code?: string;
  /** One line, truncated, safe for logs, terminals and JSON. */
  readonly message?: string;
}

const MAX_ERROR_BODY_BYTES = 64 * 1024;
const MAX_MESSAGE_CHARACTERS = 300;

/**
 * Reads an error body: that of OCI, or the JSON of a token service. Others give nothing. An unproven body is
 * not read. Never fails.
 */
export async function readWords({
  body,
  isUnproven,
}: Pick<TransportResponse, 'body' | 'isUnproven'>): Promise<UpstreamWords> {
  if (isUnproven === true) {
    await body.discard();
    return {};
  }
  let json: unknown;
  try {
    json = parseJson(await body.read(MAX_ERROR_BODY_BYTES));
  } catch {
    // Error bodies may be of any form, empty or broken: the status is enough.
    return {};
  }
  if (!isJsonObject(json)) return {};
  const { errors } = json;
  const first: unknown = Array.isArray(errors) ? errors[0] : undefined;
  const { code, message } = isJsonObject(first) ? first : {};
  // RFC 6749, section 5.2. Docker Hub's token service sends `details`.
  const said = [message, json['message'], json['error_description'], json['details'], json['error']].find(
    (text): text is string => typeof text === 'string' && text.trim() !== '',
  );
  return {
    ...(typeof code === 'string' && /^[A-Z_]{1,64}$/.test(code) ? { code } : {}),
    ...(said === undefined ? {} : { message: toOneLine(said) }),
  };
}

/**
 * Makes untrusted text safe: no control or direction characters, no queries of URLs (signatures), no echoed
 * credentials.
 */
function toOneLine(text: string): string {
  const harmless = text
    .slice(0, 4 * MAX_MESSAGE_CHARACTERS)
    .trim()
    .replace(/(https?:\/\/[^\s?"'<>]+)\?[^\s"'<>]*/gi, '$1?…')
    .replace(/\b(basic|bearer)\s+[^\s"',]{8,}/gi, '$1 …')
    .replace(/[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu, escapeCharacter);
  const characters = Array.from(harmless);
  return characters.length <= MAX_MESSAGE_CHARACTERS
    ? harmless
    : `${characters.slice(0, MAX_MESSAGE_CHARACTERS).join('')}…`;
}

function escapeCharacter(character: string): string {
  return `\\u{${(character.codePointAt(0) ?? 0).toString(16)}}`;
}
