// Reads an image through a proxy, from another program: npm install spandrel-0.1.0.tgz, then
// node client.ts demo/app:latest app/main.py
import { jobProgress, SpandrelClient, SpandrelError } from 'spandrel/client';

const [image = 'demo/app:latest', path = 'app/main.py'] = process.argv.slice(2);
const { SPANDREL_PROXY: proxy, SPANDREL_ADMIN: admin, SPANDREL_ADMIN_TOKEN: token } = process.env;
const client = new SpandrelClient({
  ...(proxy === undefined ? {} : { proxy }),
  ...(admin === undefined ? {} : { admin }),
  token,
});

try {
  const job = await client.warm(image, {
    onProgress: (seen) => {
      const { doneBytes, totalBytes } = jobProgress(seen);
      console.error(`${doneBytes} of ${totalBytes ?? 'an unknown number of'} bytes`);
    },
  });
  for (const { platform, lazy } of job.images) console.log(`${platform} ${lazy ? 'lazy' : 'not lazy'}`);

  const { digest } = await client.status(image);
  console.log(digest);

  for await (const { type, name } of client.list(image, '/')) console.log(`${type} ${name}`);

  const file = await client.readFile(image, path, { range: { start: 0, end: 16 } });
  const chunks: Uint8Array[] = [];
  for await (const chunk of file.body) chunks.push(chunk);
  console.log(`${Buffer.concat(chunks).toString('hex')} of ${file.totalBytes} bytes`);
} catch (error) {
  if (!(error instanceof SpandrelError)) throw error;
  console.error(`${error.code}: ${error.message}`);
  process.exitCode = 1;
}
