-- The health of a ConnectionPool for Argo CD, as kstatus computes it for Flux, but for
-- pools that are paused: Suspended.
local status = obj.status or {}
local conditions = {}
for _, condition in ipairs(status.conditions or {}) do
  conditions[condition.type] = condition
end
local function is(kind, value)
  return conditions[kind] ~= nil and conditions[kind].status == value
end

local ready = conditions.Ready
if ready == nil or status.observedGeneration ~= obj.metadata.generation then
  return {status = "Progressing", message = "the operator has not examined the newest spec yet"}
end
if is("Stalled", "True") then
  return {status = "Degraded", message = conditions.Stalled.message}
end
if is("Reconciling", "True") then
  return {status = "Progressing", message = conditions.Reconciling.message}
end
if ready.reason == "Paused" then
  return {status = "Suspended", message = ready.message}
end
if not is("Ready", "True") then
  return {status = "Progressing", message = ready.message}
end
-- A pool that serves is healthy although some of its targets fail: in a large fleet one
-- always does, and it has a health of its own. The message names them.
if is("Degraded", "True") then
  return {status = "Healthy", message = conditions.Degraded.message}
end
return {status = "Healthy", message = ready.message}
