/** Facts of a finding for programs; the message has them in words. */
export interface FindingFacts {
  /** A code of the error table, of OpenSSL, `REDIS_LOST`, `BUCKET_LOST`, or `EACCES`. */
  readonly code?: string;
  readonly registry?: string;
  /** `os/architecture` of the image. */
  readonly platform?: string;
  /** Of a layer or a manifest. */
  readonly digest?: string;
  /** Compressed size of a layer. */
  readonly bytes?: number;
  /** Of the running machine, not of its files: what an image of a node must see to at boot. */
  readonly atBoot?: string;
}

/** Result of one check. */
export interface Finding extends FindingFacts {
  readonly area:
    | 'proxy'
    | 'config'
    | 'upstream'
    | 'node'
    | 'containerd'
    | 'mirrors'
    | 'snapshotter'
    | 'mounts'
    | 'docker'
    | 'podman'
    | 'image';
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

  ok(message: string, facts: FindingFacts = {}): void {
    this.findings.push({ area: this.#area, status: 'ok', message, ...facts });
  }

  note(message: string, next?: string, facts: FindingFacts = {}): void {
    const step = next === undefined ? {} : { next };
    this.findings.push({ area: this.#area, status: 'note', message, ...step, ...facts });
  }

  problem(message: string, next: string, facts: FindingFacts = {}): void {
    this.findings.push({ area: this.#area, status: 'problem', message, next, ...facts });
  }
}
