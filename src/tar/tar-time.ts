import { SpandrelError } from '../core/errors.ts';
import { parseDecimal } from './parse-numeric.ts';

const NANOSECOND_DIGITS = 9;
/** 0000-01-01 and 10000-01-01, in seconds from 1970. */
const YEAR_0 = -62_167_219_200;
const YEAR_10000 = 253_402_300_800;

/** A time in a tar header. */
export interface TarTime {
  /** Since 1970; negative before. */
  readonly seconds: number | bigint;
  /** 0 to 999,999,999, counted forward from `seconds`. */
  readonly nanoseconds: number;
}

/**
 * A PAX time: seconds with any number of decimals; only nine count (Go `archive/tar`, parsePAXTime).
 * @throws SpandrelError TAR_INVALID
 */
export function parsePaxTime(text: string): TarTime {
  const dot = text.indexOf('.');
  const seconds = parseDecimal(dot < 0 ? text : text.slice(0, dot));
  const decimals = dot < 0 ? '' : text.slice(dot + 1);
  if (!/^[0-9]*$/.test(decimals)) throw new SpandrelError('TAR_INVALID', 'a PAX header has a malformed time');
  const nanoseconds = Number(decimals.slice(0, NANOSECOND_DIGITS).padEnd(NANOSECOND_DIGITS, '0'));
  if (nanoseconds === 0 || !text.startsWith('-')) return { seconds, nanoseconds };
  return {
    seconds: typeof seconds === 'bigint' ? seconds - 1n : seconds - 1,
    nanoseconds: 1e9 - nanoseconds,
  };
}

/**
 * RFC 3339 with as many decimals as needed; empty if the year does not have four digits (Go `time`,
 * MarshalText).
 */
export function formatTime({ seconds, nanoseconds }: TarTime): string {
  if (typeof seconds === 'bigint' || seconds < YEAR_0 || seconds >= YEAR_10000) return '';
  const whole = new Date(seconds * 1000).toISOString().slice(0, -'.000Z'.length);
  if (nanoseconds === 0) return `${whole}Z`;
  const decimals = String(nanoseconds).padStart(NANOSECOND_DIGITS, '0').replace(/0+$/, '');
  return `${whole}.${decimals}Z`;
}
