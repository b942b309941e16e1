-- Runs the script that follows only once for each mark.
--
-- KEYS: the last one is the mark, which the script that follows does not see. The server remembers it for seven days.
-- Returns 1 if the mark was there already.

if not call('SET', table.remove(KEYS), '1', 'NX', 'EX', 604800) then
  return 1
end

