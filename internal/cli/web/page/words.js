// Words and numbers for people.

// ago returns how long ago a time in milliseconds was, as kubectl writes it.
export function ago(at, now = Date.now()) {
  if (!at) return "–";
  const seconds = Math.max(0, Math.floor((now - at) / 1000));
  if (seconds < 120) return `${seconds}s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 10) return seconds % 60 ? `${minutes}m${seconds % 60}s` : `${minutes}m`;
  if (minutes < 180) return `${minutes}m`;
  const hours = Math.floor(minutes / 60);
  if (hours < 8) return minutes % 60 ? `${hours}h${minutes % 60}m` : `${hours}h`;
  if (hours < 48) return `${hours}h`;
  const days = Math.floor(hours / 24);
  if (days < 8 && hours % 24) return `${days}d${hours % 24}h`;
  return days < 730 ? `${days}d` : `${Math.floor(days / 365)}y`;
}

// micros returns a duration that is given in microseconds.
export function micros(n) {
  if (!n) return "–";
  if (n < 1000) return `${n} µs`;
  if (n < 10_000) return `${(n / 1000).toFixed(1)} ms`;
  if (n < 1_000_000) return `${Math.round(n / 1000)} ms`;
  return `${(n / 1_000_000).toFixed(1)} s`;
}

// rate returns a number of uses per second.
export function rate(n) {
  return n >= 100 ? String(Math.round(n)) : n.toFixed(1);
}

const grouped = new Intl.NumberFormat("en");

// count returns a number of things.
export function count(n, one, many = one + "s") {
  return `${grouped.format(n)} ${n === 1 ? one : many}`;
}

// clock returns a time of day.
export function clock(at) {
  return new Date(at).toLocaleTimeString("en-GB");
}

// levels are what health can be, the most urgent first.
export const levels = ["failing", "warning", "warming", "unknown", "paused", "ready"];

// needsAttention reports whether a person has to do something.
export function needsAttention(level) {
  return level === "failing" || level === "warning";
}

// poolName returns the name of a pool for people; targets without a pool are a row too.
export function poolName(pool) {
  return pool.name || "in no pool";
}

// sentenceOf returns a target in a pool as one sentence, for tooltips and screen readers.
export function sentenceOf(member) {
  const parts = [member.name, needsAttention(member.level) ? `${member.level}: ${member.word}` : member.word];
  if (member.slots) parts.push(`${member.running ?? 0} of ${member.slots} in use`);
  else if (member.level === "ready") parts.push("no warm connection");
  return parts.join(", ");
}
