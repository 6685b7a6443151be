/** Result of one check. */
export interface Finding {
  readonly area:
    'proxy' | 'upstream' | 'containerd' | 'mirrors' | 'snapshotter' | 'docker' | 'podman' | 'image';
  /** `note`: works, but good to know; `problem`: prevents pulls, or lazy ones. */
  readonly status: 'ok' | 'note' | 'problem';
  readonly message: string;
  /** What the user should do. */
  readonly next?: string;
}

/** Findings of one area. */
export class Report {
  readonly findings: Finding[] = [];
  readonly #area: Finding['area'];

  constructor(area: Finding['area']) {
    this.#area = area;
  }

  ok(message: string): void {
    this.findings.push({ area: this.#area, status: 'ok', message });
  }

  note(message: string, next?: string): void {
    this.findings.push({
      area: this.#area,
      status: 'note',
      message,
      ...(next === undefined ? {} : { next }),
    });
  }

  problem(message: string, next: string): void {
    this.findings.push({ area: this.#area, status: 'problem', message, next });
  }
}
