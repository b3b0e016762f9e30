//! Links, addresses, routes and rules over rtnetlink.
