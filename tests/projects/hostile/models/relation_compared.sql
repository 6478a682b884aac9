select {{ 1 if 'acme' in this.render() else 2 }} as a
