import { parseArgs } from 'node:util';

import { type PullResult, pullImage } from './pull-image.ts';

/** The clients' process: pulls one image with many clients at once and prints what each saw, as JSON. */
const { values } = parseArgs({
  options: {
    url: { type: 'string' },
    repository: { type: 'string' },
    tag: { type: 'string' },
    clients: { type: 'string' },
  },
});
const { url = '', repository = '', tag = '', clients = '1' } = values;
const pulls: Promise<PullResult>[] = [];
for (let client = 0; client < Number(clients); client++) pulls.push(pullImage(url, repository, tag));
process.stdout.write(`${JSON.stringify(await Promise.all(pulls))}\n`);
