// A bad line to a server: each connection is cut after so many bytes of answers.

import net from "node:net";

export async function cutter(target, bytes) {
  const { hostname, port } = new URL(target);
  const sockets = new Set();
  const line = { cuts: 0 };
  const server = net.createServer((client) => {
    const upstream = net.connect(Number(port), hostname);
    let left = bytes;
    for (const socket of [client, upstream]) {
      sockets.add(socket);
      socket.on("error", () => {});
      socket.on("close", () => { sockets.delete(socket); client.destroy(); upstream.destroy(); });
    }
    client.on("data", (data) => upstream.write(data));
    upstream.on("data", (data) => {
      client.write(data.subarray(0, left));
      left -= data.length;
      if (left <= 0) {
        line.cuts += 1;
        client.destroy();
      }
    });
  });
  await new Promise((listening) => server.listen(0, "127.0.0.1", listening));
  line.url = `http://127.0.0.1:${server.address().port}`;
  line.close = () => {
    server.close();
    for (const socket of sockets) socket.destroy();
  };
  return line;
}
