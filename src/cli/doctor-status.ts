import { type ErrorCode, ERRORS } from '../core/errors.ts';
import { escapeControls } from '../core/escape-controls.ts';
import { EXIT, type ExitStatus, exitStatusOf } from './terminal/exit-status.ts';
import type { PlatformReport } from './doctor/image/check-image.ts';
import type { Finding } from './doctor/finding.ts';
import { wrapText } from './terminal/wrap-text.ts';

/** The exit status of doctor: the cause that comes first in the chain from the node to the image. */
export function doctorStatus(findings: readonly Finding[], platforms: readonly PlatformReport[]): ExitStatus {
  const problems = findings.filter(({ status }) => status === 'problem');
  if (problems.length === 0) return EXIT.ok;
  const causes = problems.flatMap(({ area, code }) =>
    code !== undefined && isErrorCode(code) && ['proxy', 'upstream', 'image'].includes(area)
      ? [exitStatusOf(code)]
      : [],
  );
  if (causes.includes(EXIT.unreachable)) return EXIT.unreachable;
  if (causes.includes(EXIT.notFound) && platforms.length === 0) return EXIT.notFound;
  if (platforms.some(({ lazy }) => !lazy)) return EXIT.notLazy;
  return EXIT.failed;
}

/**
 * Findings as text, and what to do next below each.
 * @param columns  of the terminal; without one, lines are not broken
 */
export function printFindings(findings: readonly Finding[], problems: number, columns = Infinity): string {
  const lines = findings.flatMap(({ area, status, message, next }) => [
    ...wrapText(
      `${area.padEnd(12)}${(status === 'problem' ? 'PROBLEM' : status).padEnd(9)}`,
      escapeControls(message),
      columns,
    ),
    ...(next === undefined ? [] : wrapText(`${' '.repeat(21)}-> `, escapeControls(next), columns)),
  ]);
  const verdict = problems === 0 ? 'no problem found' : problems === 1 ? '1 problem' : `${problems} problems`;
  return `${[...lines, verdict].join('\n')}\n`;
}

function isErrorCode(code: string): code is ErrorCode {
  return Object.hasOwn(ERRORS, code);
}
