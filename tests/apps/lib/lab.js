// A network of namespaces on this machine: a server, and clients that reach it directly or through a NAT each.
//
//   server 10.77.0.1 ──┐                 ┌── client a, 10.77.0.101                    (open lab: clients reach only
//                    bridge (namespace hub)                                            the server, not each other)
//                      └── nat a 10.77.0.11 ── client a, 192.168.101.2                (NAT lab)
//
// All of it ends with `stop()`. Nothing leaves the machine: no namespace has a way out.

import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';

export const SERVER = '10.77.0.1';

/** Why no lab can be built here, or undefined. With CI=true that is an error: nothing is to be skipped. */
export function lacking() {
  const folders = process.env.PATH.split(':');
  const missing = ['ip', 'nft', 'nsenter'].filter((name) => !folders.some((at) => existsSync(`${at}/${name}`)));
  if (process.getuid() !== 0) missing.unshift('root');
  if (missing.length === 0) return undefined;
  const reason = `network namespaces need ${missing.join(', ')}`;
  if (process.env.CI === 'true') throw new Error(reason);
  return reason;
}

// How a NAT gives out ports. Linux keeps a client's port if it can, the same towards everybody (a cone);
// with fully-random every destination sees another port (symmetric).
const MASQUERADE = { cone: 'masquerade', symmetric: 'masquerade random,fully-random' };

export class Lab {
  #namespaces = [];
  // A run that was killed leaves its namespaces behind, and in a container another may get its process id.
  #prefix = `tw${process.pid}-${randomBytes(3).toString('hex')}`;

  static async start({ clients, nat }) {
    const lab = new Lab();
    try {
      lab.#build(clients, nat);
      return lab;
    } catch (error) {
      lab.stop();
      throw error;
    }
  }

  /** The command that enters a namespace. */
  through(name) {
    return ['nsenter', `--net=/run/netns/${this.#name(name)}`];
  }

  /** Takes the server's cable out, or puts it back. */
  connectServer(yes) {
    this.#ip('hub', `link set server ${yes ? 'up' : 'down'}`);
  }

  /** Changes how the NAT of a client works, for what it sends from now on. */
  setNat(client, kind) {
    const gate = `nat-${client}`;
    this.#in(gate, 'nft', 'flush ruleset');
    // The filter drops what nobody asked for, as a home router does; else its own stack would answer for the client.
    this.#in(gate, 'nft', '-f', '-', `
      table ip nat {
        chain out {
          type nat hook postrouting priority srcnat
          oifname "wan" ${MASQUERADE[kind]}
        }
      }
      table ip filter {
        chain in {
          type filter hook input priority filter
          iifname "wan" drop
        }
      }
    `);
  }

  stop() {
    for (const name of this.#namespaces.splice(0)) execFileSync('ip', ['netns', 'del', name]);
  }

  #build(clients, nat) {
    this.#add('hub');
    this.#ip('hub', 'link add bridge type bridge', 'link set bridge up');
    this.#add('server');
    this.#plug('server', 'wan', 'server', `${SERVER}/24`);
    clients.forEach((client, index) => {
      this.#add(client);
      if (nat === undefined) {
        this.#plug(client, 'wan', `to-${client}`, `10.77.0.${101 + index}/24`);
        this.#ip('hub', `link set to-${client} type bridge_slave isolated on`);
        this.#ip(client, `route add default via ${SERVER}`);
        return;
      }
      const gate = `nat-${client}`;
      const lan = `192.168.${101 + index}`;
      this.#add(gate);
      this.#plug(gate, 'wan', gate, `10.77.0.${11 + index}/24`);
      this.#ip(gate, `link add lan type veth peer name wan netns ${this.#name(client)}`, `addr add ${lan}.1/24 dev lan`, 'link set lan up');
      this.#ip(client, `addr add ${lan}.2/24 dev wan`, 'link set wan up', `route add default via ${lan}.1`);
      this.#in(gate, 'sh', '-c', 'echo 1 > /proc/sys/net/ipv4/ip_forward');
      this.setNat(client, nat);
    });
  }

  #add(name) {
    execFileSync('ip', ['netns', 'add', this.#name(name)]);
    this.#namespaces.push(this.#name(name));
    this.#in(name, 'sh', '-c', 'echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6');
    this.#ip(name, 'link set lo up');
  }

  /** A cable from a namespace's interface to a port of the bridge. */
  #plug(name, link, port, address) {
    this.#ip('hub', `link add ${port} type veth peer name ${link} netns ${this.#name(name)}`, `link set ${port} master bridge up`);
    this.#ip(name, `addr add ${address} dev ${link}`, `link set ${link} up`);
  }

  #ip(name, ...commands) {
    for (const command of commands) execFileSync('ip', ['-n', this.#name(name), ...command.split(' ')]);
  }

  #in(name, command, ...args) {
    const input = args.includes('-') ? args.pop() : undefined;
    execFileSync('nsenter', [...this.through(name).slice(1), command, ...args], { input, stdio: ['pipe', 'ignore', 'inherit'] });
  }

  #name(name) {
    return `${this.#prefix}-${name}`;
  }
}
