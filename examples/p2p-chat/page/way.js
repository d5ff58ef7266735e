// In words: which candidates there are, and which pair of them carries the traffic.

const NAMES = { host: 'host', srflx: 'server-reflexive', prflx: 'peer-reflexive', relay: 'relay' };

/** For example "host 2, relay 1". */
export function candidateSummary(candidates) {
  const count = (type) => candidates.filter((candidate) => typeOf(candidate) === type).length;
  return Object.keys(NAMES).filter(count).map((type) => `${NAMES[type]} ${count(type)}`).join(', ');
}

export async function describePair(connection) {
  const stats = await connection.getStats();
  const transport = [...stats.values()].find(({ type }) => type === 'transport');
  const pair = stats.get(transport?.selectedCandidatePairId)
    ?? [...stats.values()].find(({ type, selected }) => type === 'candidate-pair' && selected); // Firefox
  if (!pair) return 'none yet';
  const [local, remote] = [pair.localCandidateId, pair.remoteCandidateId].map((id) => stats.get(id));
  if (!local || !remote) return 'none yet';
  const ends = `${NAMES[local.candidateType]} ↔ ${NAMES[remote.candidateType]}`;
  if (local.candidateType === 'relay') return `relayed over ${local.relayProtocol.toUpperCase()}: ${ends}`;
  return `${remote.candidateType === 'relay' ? 'relayed by their side' : 'direct'}: ${ends}`;
}

function typeOf({ type, candidate }) {
  return type ?? / typ (\w+)/.exec(candidate)?.[1];
}
