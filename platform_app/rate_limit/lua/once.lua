-- Runs what follows once, however often it is called with the same mark.
--
-- KEYS: one more at the end, the mark; the script that follows does not see it. It is remembered for seven days.
-- Returns 1 where the mark was there already.

if not call('SET', table.remove(KEYS), '1', 'NX', 'EX', 604800) then
  return 1
end

