"""What scripts of the store have in common."""

from typing import Final

SECONDS: Final = """
local function seconds(given)
  if given ~= '' then return tonumber(given) end
  local time = redis.call('TIME')
  return tonumber(time[1]) + tonumber(time[2]) / 1e6
end
"""
"""UTC seconds by the store's own clock, so that the clocks of machines do not matter, unless they are `given`, for tests."""
