// Runs commands in a pool with the JavaScript client of Kubernetes, as its users do.
import { Exec, KubeConfig } from '@kubernetes/client-node';
import { WebSocketHandler } from '@kubernetes/client-node/dist/web-socket-handler.js';
import { PassThrough, Readable } from 'node:stream';
import { text } from 'node:stream/consumers';

const [kubeconfig, namespace, pool] = process.argv.slice(2);
const config = new KubeConfig();
config.loadFromFile(kubeconfig);

// The client's Exec knows the path of pods only.
class Pools extends WebSocketHandler {
  connect(path, onText, onBinary) {
    const query = new URLSearchParams(path.slice(path.indexOf('?') + 1));
    query.delete('container');
    return super.connect(
      `/apis/live.connpool.dev/v1alpha1/namespaces/${namespace}/connectionpools/${pool}/exec?${query}`, onText, onBinary);
  }
}

async function run(command, input, tty = false) {
  const stdout = new PassThrough();
  const stderr = new PassThrough();
  const output = Promise.all([text(stdout), text(stderr)]);
  let socket;
  const status = await new Promise((resolve, reject) => {
    new Exec(config, new Pools(config))
      .exec(namespace, pool, '', command, stdout, tty ? null : stderr, input, tty, resolve)
      .then((opened) => { socket = opened; }, reject);
  });
  stdout.end();
  stderr.end();
  socket?.close();
  const [out, err] = await output;
  const code = status.details?.causes?.find((cause) => cause.reason === 'ExitCode')?.message;
  return { out, err, status: status.status, code };
}

function check(what, got, want) {
  if (JSON.stringify(got) !== JSON.stringify(want)) {
    console.error(`${what}: got ${JSON.stringify(got)}, want ${JSON.stringify(want)}`);
    process.exit(1);
  }
}

check('output', await run(['echo', "it's", 'a  b'], null), { out: "it's a  b\n", err: '', status: 'Success' });
check('exit code', await run(['sh', '-c', 'echo oops >&2; exit 3'], null),
  { out: '', err: 'oops\n', status: 'Failure', code: '3' });
check('stdin', (await run(['head', '-c', '6'], Readable.from(['hello\n']))).out, 'hello\n');
check('tty', (await run(['sh', '-c', 'test -t 0 && echo a terminal'], null, true)).out.trim(), 'a terminal');
console.log('ok');
process.exit(0);
