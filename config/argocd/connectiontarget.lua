-- The health of a ConnectionTarget for Argo CD, as kstatus computes it for Flux, but for
-- targets that nothing is to be done for: Suspended, or Healthy if no pool selects them.
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
  local message = ready.message
  if is("Ready", "True") then
    message = conditions.Reconciling.message
  end
  return {status = "Progressing", message = message}
end
if ready.reason == "Paused" then
  return {status = "Suspended", message = ready.message}
end
-- A target may be applied before the pools that select it, so later sync waves go on.
if ready.reason == "NotSelected" then
  return {status = "Healthy", message = ready.message}
end
if not is("Ready", "True") then
  return {status = "Progressing", message = ready.message}
end
-- What serves is healthy, also while it could not be connected again right now: the
-- operator goes on trying by itself.
if is("Reachable", "False") then
  return {status = "Healthy", message = ready.message .. ": " .. conditions.Reachable.message}
end
return {status = "Healthy", message = ready.message}
