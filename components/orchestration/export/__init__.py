"""Take a released model away: a folder that answers without gristmill."""
